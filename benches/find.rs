//! What it costs to find the offence in a message: `cargo bench --bench find`.
//!
//! The messages are in `tests/samples`: real servers wrote them while they were attacked and used.

#![allow(missing_docs)]

use banstream::grammar::{Grammar, SHIPPED};
use divan::{Bencher, counter::ItemsCount};

fn main() {
    divan::main();
}

fn text(name: &str) -> &'static str {
    SHIPPED.iter().find(|(known, _)| *known == name).expect("a shipped grammar").1
}

/// The grammar, and the messages that its server wrote: what follows the tag in rsyslog's file format.
fn load(name: &str) -> (Grammar, Vec<Vec<u8>>) {
    let path =
        format!("{}/tests/samples/{}.log", env!("CARGO_MANIFEST_DIR"), name.replace("apache", "apache2"));
    let samples = std::fs::read(path).expect("the samples");
    let (grammar, _) = Grammar::load(name, name, text(name)).expect("it is sound");
    let message = |line: &[u8]| {
        let tag = line.windows(2).position(|two| two == b": ")?;
        line.get(tag + 2..).filter(|_| line.starts_with(b"20")).map(<[u8]>::to_vec)
    };
    (grammar, samples.split(|byte| *byte == b'\n').filter_map(message).collect())
}

/// Nanoseconds a message, over all that the server wrote while it was attacked and used.
#[divan::bench(args = ["sshd", "vsftpd", "proftpd", "pure-ftpd", "nginx", "apache"])]
fn find(bencher: Bencher<'_, '_>, name: &str) {
    let (grammar, messages) = load(name);
    bencher.counter(ItemsCount::new(messages.len())).bench_local(|| {
        messages.iter().filter(|message| grammar.read(divan::black_box(message)).is_some()).count()
    });
}

/// Parsing, proving and testing a grammar.
#[divan::bench(args = ["sshd", "nginx", "apache"])]
fn prove(bencher: Bencher<'_, '_>, name: &str) {
    bencher.bench_local(|| Grammar::load(name, name, divan::black_box(text(name))).is_ok());
}
