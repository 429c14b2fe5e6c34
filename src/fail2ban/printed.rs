//! Rules as a grammar has them.

use super::piece::{Hole, RuleField, RulePiece};

/// The rule as a grammar has it. Fields with conditions are called `x1`, `x2` and so on.
pub(super) fn printed(pieces: &[RulePiece]) -> (String, Vec<String>) {
    let mut printer = Printer::default();
    printer.pieces(pieces);
    let text = match printer.text.strip_prefix('#') {
        Some(rest) => format!("\\#{rest}"),
        None => printer.text,
    };
    (text, printer.conditions)
}

/// A word of a condition.
pub(super) fn in_quotes(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[derive(Default)]
struct Printer {
    text: String,
    conditions: Vec<String>,
    has_user: bool,
}

impl Printer {
    fn pieces(&mut self, pieces: &[RulePiece]) {
        for piece in pieces {
            match piece {
                RulePiece::Text(text) => self.plain(text, "<{}|\\"),
                RulePiece::Field(field) => self.field(field),
                RulePiece::Choice(options, optional) => {
                    self.text.push('{');
                    for (nth, option) in options.iter().enumerate() {
                        self.text += if nth == 0 { "" } else { "|" };
                        self.pieces(option);
                    }
                    self.text += if *optional { "}?" } else { "}" };
                }
            }
        }
    }

    fn plain(&mut self, text: &str, special: &str) {
        for c in text.chars() {
            self.text += if special.contains(c) { "\\" } else { "" };
            self.text.push(c);
        }
    }

    fn field(&mut self, field: &RuleField) {
        let is_user = field.is_user && !self.has_user;
        self.has_user |= is_user;
        let mut name = if is_user { "user:".to_owned() } else { String::new() };
        for (how, words) in [("starts not", &field.not_starting), ("has not", &field.without)] {
            if !words.is_empty() {
                name = if name.is_empty() { format!("x{}:", self.conditions.len() + 1) } else { name };
                let words: Vec<String> = words.iter().map(|word| in_quotes(word)).collect();
                self.conditions.push(format!("{} {how} {}", name.trim_end_matches(':'), words.join(" ")));
            }
        }
        let kind = match &field.hole {
            Hole::Free if name == "user:" => {
                self.text += "<user>";
                return;
            }
            Hole::Without(characters) => {
                self.text += &format!("<{name}not ");
                let characters: String = characters.iter().collect();
                self.plain(&characters, " <>{}|\\");
                self.text.push('>');
                return;
            }
            Hole::Ip => "ip",
            Hole::Peer => "peer",
            Hole::Free => "text",
            Hole::Word => "word",
            Hole::Num => "num",
            Hole::Time => "time",
        };
        self.text += &format!("<{name}{kind}>");
    }
}
