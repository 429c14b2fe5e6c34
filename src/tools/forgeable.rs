//! Log files in which clients can write whole lines, so that nobody may read them for us: by what grammars say of their
//! services. It is pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::grammar::{Grammar, Grammars};

/// The grammar by which clients can write lines of their own into the files of a pattern, of which `lines` are some. The
/// grammars called `readers` read them, besides those that name such files.
pub fn forgeable<'g>(
    grammars: &'g Grammars,
    pattern: &str,
    lines: &[Vec<u8>],
    readers: &[String],
) -> Option<&'g Grammar> {
    grammars.iter().find(|grammar| {
        let may_be_its = || {
            let logs = grammar.logs().iter().chain(grammar.forgeable_files());
            // A log that can be anywhere begins like no other.
            !grammar.forgeable_files().is_empty()
                || readers.iter().any(|reader| reader == grammar.name())
                || logs.into_iter().any(|log| overlap(log.as_bytes(), pattern.as_bytes()))
        };
        is_known(grammar, pattern)
            || lines.iter().any(|line| grammar.is_of_forgeable_log(line)) && may_be_its()
    })
}

/// Whether the pattern has files that the grammar names, or files of the same name below a folder of its service.
fn is_known(grammar: &Grammar, pattern: &str) -> bool {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let is_of_service =
        || grammar.programs().iter().any(|program| folder.split('/').any(|part| part.contains(program)));
    grammar.forgeable_files().iter().any(|file| {
        let its = file.rsplit('/').next().unwrap_or(file);
        overlap(file.as_bytes(), pattern.as_bytes())
            || overlap(its.as_bytes(), name.as_bytes()) && is_of_service()
    })
}

/// Whether a text matches both of two patterns, in which `*` stands for anything and `?` for a character.
///
/// Takes time in proportion to the product of their lengths.
pub fn overlap(one: &[u8], other: &[u8]) -> bool {
    // Whether what is left of `one` and of `other`, which has so many bytes, overlap.
    let mut shorter: Vec<bool> =
        (0..=other.len()).map(|left| other.iter().rev().take(left).all(|byte| *byte == b'*')).collect();
    for a in one.iter().rev() {
        let mut row = vec![*a == b'*' && shorter.first() == Some(&true)];
        for (b, rest) in other.iter().rev().zip(shorter.windows(2)) {
            let [without_b, with_b] = *rest else { break };
            row.push(match (a, b) {
                (b'*', _) | (_, b'*') => with_b || row.last() == Some(&true),
                _ => without_b && (a == b || *a == b'?' || *b == b'?'),
            });
        }
        shorter = row;
    }
    shorter.last() == Some(&true)
}

/// What lets such a server write a log that can be believed.
pub fn remedy(grammar: &Grammar) -> &'static str {
    match grammar.name() {
        "nginx" | "nginx-mail" | "bunkerweb" | "baikal" | "bookstack" => {
            "take it from syslog: let nginx have `error_log syslog:server=unix:/dev/log,nohostname;`"
        }
        "apache" => "take it from syslog: let Apache have `ErrorLog syslog:local7`",
        "lighttpd" => "take it from syslog: let lighttpd have `server.errorlog-use-syslog = \"enable\"`",
        "proftpd" => "take it from syslog: take `SystemLog` out of proftpd.conf",
        "traefik" => "let Traefik write JSON: `--accesslog.format=json`",
        _ => "take it from syslog",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::Lists;

    #[test]
    fn patterns_overlap_where_a_file_is_one_of_both() {
        for (one, other, want) in [
            ("/a/*error.log", "/a/error.log", true),
            ("/a/*error.log", "/a/*.log", true),
            ("/a/*error.log", "/*/x-*", true),
            ("/a/*error.log", "/a/access.log", false),
            ("/a/*error.log", "/a/*access.log", false),
            ("/a/b", "/a/b*", true),
            ("/a/b", "/a/?", true),
            ("/a/b", "/a", false),
            ("", "*", true),
            ("*", "", true),
            ("?", "", false),
            ("a*", "*a", true),
            ("a*b", "b*a", false),
            (format!("{}b", "a*".repeat(200)).as_str(), format!("{}c", "*a".repeat(200)).as_str(), false),
        ] {
            assert_eq!(overlap(one.as_bytes(), other.as_bytes()), want, "{one} {other}");
            assert_eq!(overlap(other.as_bytes(), one.as_bytes()), want, "{other} {one}");
        }
    }

    #[test]
    fn forgeable_files_are_known_by_place_name_and_lines() {
        let names = ["nginx", "apache", "traefik"];
        let grammars = names.map(|name| Grammar::shipped(name, &Lists::shipped()).unwrap());
        let grammars = Grammars::new(grammars.into()).unwrap();
        let error = "2026/11/29 10:00:00 [error] 9#9: *1 open() \"/x\" failed, client: 192.0.2.1";
        for (file, line, want) in [
            ("/var/log/nginx/error.log", "", Some("nginx")),
            ("/var/log/nginx/*.log", "", Some("nginx")),
            ("/srv/nginx-1/logs/site.error.log", "", Some("nginx")),
            ("/srv/www/error.log", error, Some("nginx")),
            ("/srv/www/any", error, Some("nginx")),
            (
                "/srv/traefik.log",
                "192.0.2.1 - x [29/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 401 1",
                Some("traefik"),
            ),
            ("/srv/traefik.log", "{\"ClientHost\":\"192.0.2.1\"}", None),
            ("/var/log/nginx/access.log", "{}", None),
            ("/var/log/apache2/error.log", "", Some("apache")),
            ("/var/log/httpd/ssl_error_log", "", Some("apache")),
            ("/srv/apache2/logs/site-error.log", "", Some("apache")),
            ("/var/log/apache2/*.log", "", Some("apache")),
            ("/var/log/apache2/other_vhosts_access.log", "", None),
            ("/srv/www/error.log", "", None),
        ] {
            let found = forgeable(&grammars, file, &[line.as_bytes().to_vec()], &["traefik".to_owned()]);
            assert_eq!(found.map(Grammar::name), want, "{file}");
        }
        let access = b"192.0.2.1 - - [29/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 401 1".to_vec();
        assert!(forgeable(&grammars, "/srv/access.log", &[access], &["nginx".to_owned()]).is_none());
    }
}
