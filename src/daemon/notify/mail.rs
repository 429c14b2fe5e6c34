//! A digest as mail. Headers contain only addresses from the configuration, numbers and checked names, so a stranger
//! cannot add a line break.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Message;

/// The mail, as `sendmail -t -i` takes it.
pub(super) fn compose(to: &str, from: Option<&str>, message: &Message) -> String {
    let from = from.map(|from| format!("From: {from}\n")).unwrap_or_default();
    // RFC 3834: so that nobody's absence is told to it.
    format!(
        "To: {to}\n{from}Subject: {}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{}",
        message.subject, message.text
    )
}
