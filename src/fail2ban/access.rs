//! Makes conditions on access logs of regular expressions, since every line of such a log has the same shape.
//!
//! A regular expression is cut into texts, quotes and gaps, and these are laid along the line: what stands in the request,
//! what follows it as the status, what stands in the referer and the user agent. Behind `.*` a text may be in any of these:
//! a path is looked for in the request, any other text in the user agent too.

mod library;
mod lines;
mod part;
mod trial;
mod walk;

pub(super) use self::library::grammar;
use self::part::read;
use self::walk::LineWalk;
use super::printed::in_quotes;
use super::regex::Obstacle;
use super::sample::SAMPLE;

/// What a line must say to be an offence, and such a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccessCase {
    /// The comparisons, all of which must hold.
    pub(super) conditions: String,
    /// A line for which they do.
    pub(super) sample: String,
    /// The words in them.
    words: Vec<String>,
}

/// So many ways to read a regular expression, words in one comparison and cases, and no more.
const MOST: usize = 256;

/// The methods that requests begin with.
const METHODS: [&str; 15] = [
    "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND", "MKCOL",
    "MOVE", "COPY", "LOCK", "PRI",
];

/// What a `failregex` makes of a line of an access log, apart from what these `ignoreregex` exclude.
///
/// # Errors
///
/// The construct that stands in the way.
pub(super) fn cases(fail: &str, ignore: &[String]) -> Result<Vec<AccessCase>, Obstacle> {
    let asked =
        |text: &str| read(text)?.into_iter().map(|parts| LineWalk::of(&parts)).collect::<Result<Vec<_>, _>>();
    let mut all: Vec<Vec<AccessCondition>> = asked(fail)?;
    if all.iter().any(Vec::is_empty) {
        return Err("it asks for nothing but an address, so every request would be an offence".to_owned());
    }
    for ignored in ignore {
        for case in asked(ignored).map_err(|why| format!("the `ignoreregex` `{ignored}`: {why}"))? {
            // Of all that it asks for, one must not hold.
            let without = |known: &Vec<AccessCondition>| {
                let negated = case.iter().map(|one| AccessCondition { not: !one.not, ..one.clone() });
                let is_possible = |one: &AccessCondition| {
                    !known.contains(&AccessCondition { not: !one.not, ..one.clone() })
                };
                let with = |one| known.iter().cloned().chain([one]).collect::<Vec<AccessCondition>>();
                negated.filter(is_possible).map(with).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(without).collect();
            if all.is_empty() {
                return Err(format!("the `ignoreregex` `{ignored}` excludes every line"));
            }
            if all.len() > MOST {
                return Err(too_many());
            }
        }
    }
    let mut cases: Vec<AccessCase> = Vec::new();
    for case in all.iter().map(|case| placed(case)).collect::<Result<Vec<_>, _>>()?.concat() {
        let sample = sample(&case);
        let conditions: Vec<String> = case.iter().map(AccessCondition::printed).collect();
        let words = case.into_iter().flat_map(|one| one.words).collect();
        let case = AccessCase { conditions: conditions.join(" and "), sample, words };
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    Ok(cases)
}

fn too_many() -> Obstacle {
    format!("more than {MOST} alternatives")
}

/// Stands for the fields that strangers write.
const ANYWHERE: &str = "";

/// With fields in the place of [`ANYWHERE`]. A referer is left out: a page can choose that of its visitors.
fn placed(case: &[AccessCondition]) -> Result<Vec<Vec<AccessCondition>>, Obstacle> {
    let mut all: Vec<Vec<AccessCondition>> = vec![Vec::new()];
    for one in case {
        let is_path = one.words.iter().all(|word| word.contains(['/', '.', '?', '=', '%', '\\']));
        let is_number = one.words.iter().all(|word| word.trim().bytes().all(|byte| byte.is_ascii_digit()));
        let is_status = is_number
            && one.words.iter().all(|word| word.trim().len() == 3)
            && !case.iter().any(|other| other.field == "status");
        let fields: &[&'static str] = match one.field {
            ANYWHERE if one.not && is_number => &["request", "referer", "agent", "status"],
            ANYWHERE if one.not => &["request", "referer", "agent"],
            ANYWHERE if is_status => &["status", "request", "agent"],
            ANYWHERE if is_path => &["request"],
            ANYWHERE => &["request", "agent"],
            field => &[field],
        };
        let each = fields.iter().map(|field| match *field {
            "status" if is_status && one.field == ANYWHERE && !one.not => AccessCondition {
                field: "status",
                how: "is",
                words: one.words.iter().map(|word| word.trim().to_owned()).collect(),
                ..one.clone()
            },
            field => AccessCondition { field, ..one.clone() },
        });
        match one.not {
            true => all.iter_mut().for_each(|case| case.extend(each.clone())),
            false => {
                all = each
                    .flat_map(|one| {
                        all.iter().map(move |case| [&**case, std::slice::from_ref(&one)].concat())
                    })
                    .collect()
            }
        }
        if all.len() > MOST {
            return Err(too_many());
        }
    }
    Ok(all)
}

/// Each of the first texts with each of the second behind it.
fn crossed(first: &[String], second: &[String]) -> Result<Vec<String>, Obstacle> {
    if first.len() * second.len() > MOST {
        return Err(too_many());
    }
    Ok(first.iter().flat_map(|one| second.iter().map(move |two| format!("{one}{two}"))).collect())
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AccessCondition {
    field: &'static str,
    how: &'static str,
    not: bool,
    words: Vec<String>,
}

impl AccessCondition {
    fn printed(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| in_quotes(word)).collect();
        format!("{} {}{} {}", self.field, self.how, if self.not { " not" } else { "" }, words.join(" "))
    }
}

/// What a request ends with.
const VERSION: &str = "HTTP/1.1";

/// A line for which these hold, if one can.
fn sample(asked: &[AccessCondition]) -> String {
    let find = |field: &str, how: &str| {
        let found = asked.iter().filter(|one| one.field == field && one.how == how && !one.not);
        found.filter_map(|one| one.words.first().cloned()).collect::<Vec<_>>()
    };
    let text = |field: &str, usual: &str| {
        if let Some(whole) = find(field, "is").pop() {
            return whole;
        }
        let parts = [find(field, "starts"), find(field, "has"), find(field, "ends")];
        if parts.iter().all(Vec::is_empty) { usual.to_owned() } else { parts.concat().join("x") }
    };
    let mut request = text("request", "/x");
    let begins = !find("request", "starts").is_empty() || !find("request", "is").is_empty();
    if !begins && !METHODS.iter().any(|method| request.starts_with(method)) {
        let is_excluded = |method: &&&str| {
            asked
                .iter()
                .any(|one| one.not && one.field == "request" && one.words.iter().any(|word| word == **method))
        };
        let usual = METHODS.iter().find(|method| !is_excluded(method)).copied().unwrap_or_default();
        let method = find("request.method", "is").pop().unwrap_or_else(|| usual.to_owned());
        let slash = if request.trim_start().starts_with('/') { "" } else { "/x" };
        request = format!("{method} {slash}{}", request.trim_start());
    }
    if find("request", "ends").is_empty() && find("request", "is").is_empty() {
        let begun = (4..VERSION.len())
            .rev()
            .filter_map(|to| VERSION.get(..to))
            .find(|begun| request.ends_with(begun));
        match begun.and_then(|begun| request.strip_suffix(begun)) {
            Some(before) => request = format!("{before}{VERSION}"),
            None if request.contains(" HTTP/") => {}
            None => request = format!("{} {VERSION}", request.trim_end()),
        }
    }
    let mut status = text("status", "404");
    while status.len() < 3 {
        status.push('0');
    }
    let (referer, agent) = (text("referer", "-"), text("agent", "x"));
    format!(r#"{SAMPLE} - - [22/Nov/2026:05:40:38 +0000] "{request}" {status} 153 "{referer}" "{agent}""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fail: &str, ignore: &[&str], want: &[&str]) {
        let ignore: Vec<String> = ignore.iter().map(|text| (*text).to_owned()).collect();
        let found = cases(fail, &ignore)
            .map(|cases| cases.into_iter().map(|case| case.conditions).collect::<Vec<_>>());
        assert_eq!(found.unwrap_or_else(|why| vec![format!("refused: {why}")]), want, "{fail}");
    }

    #[test]
    fn requests_statuses_and_agents_are_found() {
        check(r#"^<HOST> .* "POST /xmlrpc\.php.*""#, &[], &[r#"request starts "POST /xmlrpc.php""#]);
        check(
            r#"^<HOST> -.*"(GET|POST|HEAD).*HTTP.*" 404 .*$"#,
            &[],
            &[r#"request.method is "GET" "POST" "HEAD" and status is "404""#],
        );
        check(
            r#"^<HOST> .* "(GET|POST) /wp-login.php HTTP.*" (200|401|4\d\d)"#,
            &[],
            &[
                r#"request starts "GET /wp-login.php HTTP" "POST /wp-login.php HTTP" and status is "200" "401""#,
                r#"request starts "GET /wp-login.php HTTP" "POST /wp-login.php HTTP" and status starts "4""#,
            ],
        );
        check(
            r"^<HOST> -.*GET.*(\.php|\.asp|\.exe|\.pl|\.cgi|\.scgi)",
            &[],
            &[r#"request.method is "GET" and request has ".php" ".asp" ".exe" ".pl" ".cgi" ".scgi""#],
        );
        check(
            r#"^<HOST> - \S+ \[\] "[A-Z]+ [^"]*/\.env[^"]*" \d+ \d+ "[^"]*" "[^"]*(?:sqlmap|nikto)[^"]*"$"#,
            &[],
            &[r#"request has "/.env" and agent has "sqlmap" "nikto""#],
        );
        check(
            r#"^<HOST> -.*"(GET|POST).*" [45]\d{2} "#,
            &[],
            &[r#"request.method is "GET" "POST" and status starts "4" "5""#],
        );
        check(r#"^\S+ <HOST> .*" 40[13] "#, &[], &[r#"status is "401" "403""#]);
        check("^<HOST> .*sqlmap", &[], &[r#"request has "sqlmap""#, r#"agent has "sqlmap""#]);
        check(
            r#"^<HOST> .*"GET .*"(?:a bot|b)"$"#,
            &[],
            &[r#"request.method is "GET" and agent is "a bot" "b""#],
        );
        check(r#"^<HOST> .*" \d+ \d+ "-" "bad"$"#, &[], &[r#"referer is "-" and agent is "bad""#]);
    }

    #[test]
    fn any_character_is_no_full_stop() {
        let login = &[r#"request starts "POST /wp-login.php HTTP/1" and status is "200""#];
        check(r#"^<HOST> .* "POST /wp-login.php HTTP/1.." 200"#, &[], login);
        check(r#"^<HOST> .* "POST /wp-login.php HTTP/1.?.?" 200"#, &[], login);
        check(
            r#"^<HOST> -.*POST /(user/)?login HTTP/1\.." 200"#,
            &[],
            &[
                r#"request has "POST /user/login HTTP/1." and status is "200""#,
                r#"request has "POST /login HTTP/1." and status is "200""#,
            ],
        );
        check(r#"^<HOST> .*"GET /.env.*" 404"#, &[], &[r#"request starts "GET /.env" and status is "404""#]);
        check(r#"^<HOST> .*"GET /x" 4.."#, &[], &[r#"request is "GET /x" and status starts "4""#]);
    }

    #[test]
    fn each_optional_part_is_there_or_not() {
        check(
            r#"^<HOST> - \S+ \[.*\] "-?" (400|408)"#,
            &[],
            &[r#"request is "-" and status is "400" "408""#, r#"request is "" and status is "400" "408""#],
        );
        check("<HOST>.*404", &[], &[r#"status is "404""#, r#"request has "404""#, r#"agent has "404""#]);
        check(r#"^<HOST> .*" 200 .*404"#, &[], &[r#"status is "200" and agent has "404""#]);
    }

    #[test]
    fn a_number_that_anything_may_follow_is_its_first_digit() {
        let digits = |before: &str| (0..10).map(|digit| format!(" \"{before}{digit}\"")).collect::<String>();
        let author = format!("request starts{}", digits("GET /?author="));
        check(r#"^<HOST> .*"GET /\?author=\d+"#, &[], &[&author]);
        let [request, agent] = ["request", "agent"].map(|field| format!("{field} has{}", digits("sqlmap-")));
        check("^<HOST> .*sqlmap-[0-9]", &[], &[&request, &agent]);
    }

    #[test]
    fn what_is_ignored_is_negated() {
        check(
            r#"^<HOST> .*" 404 "#,
            &[r"\.(jpg|png)", r#"^<HOST> .*"GET /health.*" 404"#],
            &[
                r#"status is "404" and request has not ".jpg" ".png" and referer has not ".jpg" ".png" and agent has not ".jpg" ".png" and request starts not "GET /health""#,
            ],
        );
        check(
            r#"^<HOST> .*"GET (?!/api|/static)[^"]*" 404"#,
            &[],
            &[
                r#"request starts not "GET /api" "GET /static" and request.method is "GET" and status is "404""#,
            ],
        );
        check(
            r#"^<HOST> .* "GET .*" 404"#,
            &["^<HOST>"],
            &["refused: the `ignoreregex` `^<HOST>` excludes every line"],
        );
    }

    #[test]
    fn what_would_read_more_is_refused() {
        let refused = |class: &str| {
            format!(
                "refused: `{class}` where a client writes, which conditions compare with texts only: write `\\S+` or `.*` if any \
                 text will do"
            )
        };
        for (fail, class) in [
            (r#"^<HOST> .*"GET /a/[^/ ]+/b[^"]*""#, r"[^ /]"),
            (r#"^<HOST> .*"GET /a/\d+/b[^"]*""#, r"\d"),
            (r#"^<HOST> .*"GET /[a-z]+\.php[^"]*""#, "[a-z]"),
            (r#"^<HOST> - .* "GET /\?author=\d+ HTTP"#, r"\d"),
        ] {
            check(fail, &[], &[&refused(class)]);
        }
        let edge = "refused: `\\b`, which nothing here can say: write the character that stands there";
        check(r#"^<HOST> .*"GET /admin\b"#, &[], &[edge]);
        check(r#"^<HOST>\b .*"GET /admin\b/x"#, &[], &[r#"request starts "GET /admin/x""#]);
        let version = r#"^<HOST> \S+ \S+ \[[^\]]+\] "[A-Z]+ /x\S* HTTP/1\.\d" 404"#;
        check(version, &[], &[r#"request has " /x" and status is "404""#]);
    }

    #[test]
    fn what_may_be_anywhere_is_refused() {
        let many = format!("^<HOST> {}", ".*sqlmap".repeat(40));
        check(&many, &[], &["refused: more than 256 alternatives"]);
        check(
            r#"^<HOST> .* "-" "bad"#,
            &[],
            &["refused: a `\"` behind `.*`, which may be that of the request, the referer or the user agent"],
        );
        check(
            "^<HOST> .*$",
            &[],
            &["refused: it asks for nothing but an address, so every request would be an offence"],
        );
        check(r#"^.* "GET .*" 200 .* "<HOST>""#, &[], &["refused: an address behind the request"]);
        let many = format!("^<HOST> .*\"GET {}", "(a|b)?".repeat(10));
        check(&many, &[], &["refused: more than 256 alternatives"]);
    }
}
