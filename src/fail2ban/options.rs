//! `name[key="value", …]`: how a jail names its filter and its actions.

/// A filter or an action, with its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedOptions {
    /// Its name.
    pub name: String,
    /// Its parameters, in their order.
    pub options: Vec<(String, String)>,
}

impl NamedOptions {
    /// The last value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The same without its parameters, but for its mode and what its lines begin with.
    pub(super) fn plain(&self) -> Self {
        let options = self.options.iter().filter(|(key, _)| PLAIN.contains(&key.as_str()));
        Self { name: self.name.clone(), options: options.cloned().collect() }
    }

    /// Its other parameters, as they are written.
    pub(super) fn parameters(&self) -> Vec<String> {
        let others = self.options.iter().filter(|(key, _)| !PLAIN.contains(&key.as_str()));
        others.map(|(key, value)| format!("{key}=\"{value}\"")).collect()
    }

    /// Reads one of them. Groups of parameters may follow each other: `name[a=1][b=2]`.
    ///
    /// # Errors
    ///
    /// What is not understood, for people.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut all = Self::parse_all(text)?.into_iter();
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Ok(Self::default()),
            (Some(_), Some(second)) => Err(format!("`{}` is not expected here", second.name)),
        }
    }

    /// Reads those in a list, which are separated by spaces or line breaks.
    ///
    /// # Errors
    ///
    /// What is not understood, for people.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let (mut found, mut rest) = (Vec::new(), text.trim_start());
        while !rest.is_empty() {
            let end = rest.find(|c: char| c == '[' || c.is_whitespace()).unwrap_or(rest.len());
            let (name, mut after) = rest.split_at(end);
            let mut one = Self { name: name.to_owned(), options: Vec::new() };
            while let Some(inside) = after.trim_start().strip_prefix('[') {
                after = parameters(inside, &mut one.options)?;
            }
            if name.is_empty() {
                return Err(format!("`{}` has no name before it", first_line(rest)));
            }
            found.push(one);
            rest = after.trim_start();
        }
        Ok(found)
    }
}

/// Parameters of filters that do not make another filter of it.
const PLAIN: [&str; 2] = ["mode", "logtype"];

/// Takes the parameters up to the `]`; what follows it.
fn parameters<'t>(mut rest: &'t str, options: &mut Vec<(String, String)>) -> Result<&'t str, String> {
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(after) = rest.strip_prefix(']') {
            return Ok(after);
        }
        let Some((key, value)) = rest.split_once('=') else {
            return Err(format!("`{}` is not `name=value`", first_line(rest)));
        };
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.split_once(quote));
        let (value, after) = match quoted {
            Some(found) => found,
            None if value.starts_with(['"', '\'']) => {
                return Err(format!("the quotation mark in `{}` is not closed", first_line(rest)));
            }
            None => value.split_at(value.find([',', ']']).unwrap_or(value.len())),
        };
        if !after.trim_start().starts_with([',', ']']) {
            return Err(format!("the `[` before `{}` is not closed", first_line(key)));
        }
        options.push((key.trim().to_lowercase(), value.trim().to_owned()));
        rest = after;
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read() {
        let one = NamedOptions::parse("sshd[mode=aggressive, a=\"b, ]c\"][d='e f']").unwrap();
        assert_eq!(one.name, "sshd");
        assert_eq!(
            [one.get("mode"), one.get("a"), one.get("d")],
            [Some("aggressive"), Some("b, ]c"), Some("e f")]
        );
        let all = NamedOptions::parse_all("a[x=1,\n   y=2]\nb c[]").unwrap();
        assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(all[0].get("y"), Some("2"));
    }

    #[test]
    fn what_is_not_closed_is_named() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            assert_eq!(NamedOptions::parse_all(text), Err(want.to_owned()));
        }
        check("a[x=\"1]", "the quotation mark in `x=\"1]` is not closed");
        check("a[x=1", "the `[` before `x` is not closed");
        check("a[x]", "`x]` is not `name=value`");
        check("[x=1]", "`[x=1]` has no name before it");
    }
}
