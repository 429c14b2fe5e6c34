//! What it costs to find the offence in a message: `cargo bench --bench find`.
//!
//! Messages are those that real servers wrote for the shipped grammars' tests, so hits and misses are mixed as
//! they are there.

#![allow(missing_docs)]

use banstream::grammar::{Grammar, SHIPPED};
use divan::{Bencher, counter::ItemsCount};

fn main() {
    divan::main();
}

fn load(name: &str) -> (Grammar, Vec<Vec<u8>>) {
    let (_, text) = SHIPPED.iter().find(|(known, _)| *known == name).expect("a shipped grammar");
    let (grammar, _) = Grammar::load(name, name, text).expect("it is sound");
    let tests = text.lines().skip_while(|line| *line != "test:").skip(1);
    let message = |line: &str| Some(line.trim().split_once(' ')?.1.trim().as_bytes().to_vec());
    (grammar, tests.filter_map(message).collect())
}

/// Nanoseconds a message, over all test messages of the grammar.
#[divan::bench(args = ["sshd", "dropbear", "vsftpd", "proftpd", "pure-ftpd", "nginx", "apache"])]
fn find(bencher: Bencher<'_, '_>, name: &str) {
    let (grammar, messages) = load(name);
    bencher.counter(ItemsCount::new(messages.len())).bench_local(|| {
        messages.iter().filter(|message| grammar.read(divan::black_box(message)).is_some()).count()
    });
}

/// Parsing, proving and testing a grammar.
#[divan::bench(args = ["sshd", "nginx", "apache"])]
fn prove(bencher: Bencher<'_, '_>, name: &str) {
    let (_, text) = SHIPPED.iter().find(|(known, _)| *known == name).expect("a shipped grammar");
    bencher.bench_local(|| Grammar::load(name, name, divan::black_box(text)).is_ok());
}
