//! Lines a second through the whole program: `cargo bench --bench replay`.
//!
//! A million lines of each kind are written to a file first, always the same: an auth.log in which 30 % report attacks
//! by 20,000 addresses, and an access log in which 5 % do. `banstream replay` then reads each five times, on one thread.

#![allow(missing_docs)]

mod workload;

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use workload::{Dice, access, auth};

const LINES: usize = 1_000_000;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    measure(&dir.join("auth"), "sshd", auth);
    measure(&dir.join("access"), "nginx", access);
}

fn measure(log: &Path, program: &str, line: fn(&mut Dice, usize) -> String) {
    let (mut dice, mut text) = (Dice(2_026), String::new());
    (0..LINES)
        .for_each(|number| writeln!(text, "{}", line(&mut dice, number * 86_400 / LINES)).expect("it fits"));
    std::fs::write(log, text).expect("room on the disk");
    let best = (0..5).map(|_| replay(log, program)).fold(f64::MAX, f64::min);
    println!("{program}: {LINES} lines in {best:.3} s, {:.1} million a second", LINES as f64 / best / 1e6);
}

fn replay(log: &Path, program: &str) -> f64 {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_banstream"));
    command
        .args(["replay", "--program", program])
        .arg(log)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null());
    assert!(command.status().expect("banstream").success());
    begun.elapsed().as_secs_f64()
}
