//! Holds the grammars to what the servers that are installed here can write.

use std::path::Path;
use std::process::Command;

/// A server's grammar, and its binaries; what a release does not have is left out, but not all of it.
const SERVERS: &[(&str, &[&str])] = &[
    ("sshd", &["/usr/sbin/sshd", "/usr/lib/openssh/sshd-session", "/usr/lib/openssh/sshd-auth"]),
    ("vsftpd", &["/usr/sbin/vsftpd"]),
    ("dropbear", &["target/servers/usr/sbin/dropbear"]),
    ("proftpd", &["target/servers/usr/sbin/proftpd", "target/servers/usr/lib/proftpd/mod_sftp.so"]),
    ("pure-ftpd", &["target/servers/usr/sbin/pure-ftpd"]),
];

#[test]
fn no_server_writes_of_a_client_in_words_that_its_grammar_does_not_know() {
    for (grammar, files) in SERVERS {
        let files = files.iter().filter(|file| Path::new(file).exists());
        let output = Command::new("contrib/formats")
            .args(["--banstream", env!("CARGO_BIN_EXE_banstream"), grammar])
            .args(files)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}
