//! The core of banstream: bytes of a log go in, bans come out.
//!
//! [`entry`] decodes records, [`grammar`] finds offences in their messages, [`detect`] turns offences into bans, and
//! [`engine`] joins the three. A [`Grammar`](grammar::Grammar) is proved when it is loaded: no message that its rules
//! read has two addresses, so nobody can write a line that gets another address banned.
//!
//! The core reads no clock, file or socket. The caller passes the time and carries out the decisions, so the core also
//! serves a linter, a SIEM or a fuzzer. Large batches are spread over the threads of rayon's pool.
//!
//! A line of sshd's log becomes a ban:
//!
//! ```
//! use std::num::{NonZeroU8, NonZeroUsize};
//!
//! use banstream_core::detect::{Detector, Growth, Jail, Seen, Settings, Watch};
//! use banstream_core::entry::{Decoder, Format};
//! use banstream_core::grammar::{Grammar, Grammars, Lists, Outcome, SHIPPED};
//! use banstream_core::model::{Mode, Span, Timestamp, Widths};
//!
//! let (name, text) = SHIPPED.iter().find(|(name, _)| *name == "sshd").unwrap();
//! let (sshd, _warnings) = Grammar::load(name, "sshd.grammar", text, &Lists::shipped()).unwrap();
//! let grammars = Grammars::new(vec![sshd]).unwrap();
//!
//! let now = Timestamp::from_secs(1_795_467_851);
//! let mut line = *b"Nov 23 21:04:11 host sshd[1]: Invalid user admin from 192.0.2.1 port 22";
//! let entry = Decoder::new(jiff::tz::TimeZone::UTC).decode(Format::Line, &mut line, now).unwrap();
//! let Outcome::Offence(offence, _rule) = grammars.find(&entry) else { panic!("no offence") };
//! assert_eq!(offence.address.to_string(), "192.0.2.1");
//!
//! let hour = Span::from_secs(3600);
//! let categories = grammars.get(offence.grammar).unwrap().categories().to_vec();
//! let jail = Jail {
//!     name: "ssh".into(),
//!     mode: Mode::Enforce,
//!     watches: vec![Watch { grammar: "sshd".into(), categories }],
//!     max_retry: NonZeroU8::MIN,
//!     find_time: hour,
//!     distinct: None,
//!     ban_time: Some(hour),
//!     ports: [].into(),
//!     ignore: vec![],
//! };
//! let settings = Settings {
//!     mode: Mode::Enforce,
//!     jails: vec![jail],
//!     ignore: vec![],
//!     protect_logins: Span::from_secs(0),
//!     widths: Widths::default(),
//!     nat64: vec![],
//!     max_offenders: NonZeroUsize::new(1000).unwrap(),
//!     growth: Growth { factor: 1.0, cap: hour, decay: hour, jitter: 0.0 },
//!     widen: None,
//! };
//! let mut seen = Seen::default();
//! Detector::new(settings, &grammars).observe(&offence, now, &mut seen);
//! let ban = seen.decisions[0].ban();
//! assert_eq!((ban.offender.to_string(), ban.until), ("192.0.2.1".to_owned(), Some(ban.since + hour)));
//! ```

// What clippy.toml lists: clocks, files, sockets, processes, threads.
#![forbid(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

pub mod model;
pub mod entry;
pub mod grammar;
pub mod detect;
pub mod engine;
