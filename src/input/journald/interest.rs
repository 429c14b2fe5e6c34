//! What of a journal's entries a replay needs: of those that no grammar can read only the program's name, by which they are
//! counted. In most journals that is most of them.

use banstream_journal::Interest;

use crate::grammar::Grammars;

/// What a field asks for.
///
/// The name of a program is asked about once a file. A message can be read by a grammar for all programs, and a piece of a
/// line can be one of a message of another program.
pub(super) fn interest(grammars: &[&Grammars], field: &[u8]) -> Interest {
    let end = field.iter().position(|byte| *byte == b'=').unwrap_or(field.len());
    let (name, value) = field.split_at_checked(end).unwrap_or_default();
    let value = value.get(1..).unwrap_or_default();
    match name {
        b"SYSLOG_IDENTIFIER" | b"_COMM" => match value {
            // The message may say whose it is, and the decoder takes the name from the path.
            [] | [b'/', ..] => Interest::Whole,
            _ if grammars.iter().any(|grammars| grammars.reads_program(value)) => Interest::Whole,
            _ => Interest::Brief,
        },
        b"MESSAGE"
            if value.starts_with(b"message repeated ")
                || grammars.iter().any(|grammars| grammars.may_find_in(value)) =>
        {
            Interest::Whole
        }
        b"_STREAM_ID" | b"_LINE_BREAK" => Interest::Whole,
        _ if name.starts_with(b"CONTAINER_") => Interest::Whole,
        _ => Interest::Unsaid,
    }
}
