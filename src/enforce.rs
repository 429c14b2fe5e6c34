//! Carries decisions out: a few kernel sets hold who is banned, and one firewall rule refers to them all.

mod change;

pub use change::{Change, Element, Family, Set, Timeout, elements, render};
