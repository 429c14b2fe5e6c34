//! The `banstream` program.

fn main() {}
