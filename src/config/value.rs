//! Readers of values: times, numbers, ports, addresses, names. Each takes one TOML value and returns its meaning, or
//! what it must be.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use toml::de::DeValue;

use super::Backend;
use super::written::{InvalidValue, meant, nearest};
use crate::model::is_harmful;
use crate::model::{Mode, Offender, Port, Protocol, Span};
use crate::words;

/// What is wanted, and what stands there instead.
fn wants(what: impl std::fmt::Display, value: &DeValue<'_>) -> InvalidValue {
    InvalidValue(match value {
        DeValue::Array(_) => format!("must be {what}, not a list"),
        DeValue::Table(_) => format!("must be {what}, not a table"),
        DeValue::String(text) if text.is_empty() => format!("must be {what}, not an empty text"),
        DeValue::String(text) => format!("must be {what}, not `{text}`"),
        DeValue::Integer(number) => format!("must be {what}, not `{number}`"),
        DeValue::Float(number) => format!("must be {what}, not `{number}`"),
        DeValue::Boolean(flag) => format!("must be {what}, not `{flag}`"),
        DeValue::Datetime(date) => format!("must be {what}, not `{date}`"),
    })
}

/// What is wanted, and that only quotation marks are at fault, if that is so.
fn unquoted(is_quoted: bool, InvalidValue(wanted): InvalidValue) -> InvalidValue {
    InvalidValue(if is_quoted { format!("{wanted} in quotation marks; leave them out") } else { wanted })
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, InvalidValue> {
    value.as_bool().ok_or_else(|| {
        let is_quoted = value.as_str().is_some_and(|text| matches!(text, "true" | "false"));
        unquoted(is_quoted, wants("`true` or `false`", value))
    })
}

/// Whether bans are carried out.
pub(super) fn mode(value: &DeValue<'_>) -> Result<Mode, InvalidValue> {
    let modes = [Mode::Enforce, Mode::Observe];
    let name =
        one_of("`enforce` or `observe`", &modes.map(Mode::name), value).map_err(|InvalidValue(wanted)| {
            let is_fail2ban = value.as_str().is_some_and(|mode| words::MODES.contains(&mode));
            let hint = if is_fail2ban { "; what fail2ban calls a mode is `offences` here" } else { "" };
            InvalidValue(format!("{wanted}{hint}"))
        })?;
    Ok(modes.into_iter().find(|mode| mode.name() == name).unwrap_or_default())
}

/// What keeps the banned out.
pub(super) fn backend(value: &DeValue<'_>) -> Result<Backend, InvalidValue> {
    let backends = [Backend::Auto, Backend::Ipset, Backend::Nftables];
    let name = one_of("`auto`, `ipset` or `nftables`", &backends.map(Backend::name), value)?;
    Ok(backends.into_iter().find(|backend| backend.name() == name).unwrap_or(Backend::Auto))
}

/// A whole number within these bounds.
pub(super) fn whole<N: TryFrom<i64>>(
    range: RangeInclusive<i64>,
) -> impl Fn(&DeValue<'_>) -> Result<N, InvalidValue> {
    move |value| {
        let number = integer(value).filter(|number| range.contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
            let is_quoted = value
                .as_str()
                .and_then(|text| text.parse().ok())
                .is_some_and(|number| range.contains(&number));
            let wanted = format_args!("a whole number from {} to {}", range.start(), range.end());
            unquoted(is_quoted, wants(wanted, value))
        })
    }
}

/// A number, whole or not, within these bounds.
pub(super) fn number(range: RangeInclusive<f64>) -> impl Fn(&DeValue<'_>) -> Result<f64, InvalidValue> {
    move |value| {
        let number = match value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            // An `i32` is a float without loss.
            _ => integer(value).and_then(|whole| i32::try_from(whole).ok()).map(f64::from),
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let is_quoted = value
                .as_str()
                .and_then(|text| text.parse().ok())
                .is_some_and(|number| range.contains(&number));
            let wanted = format_args!("a number from {} to {}", range.start(), range.end());
            unquoted(is_quoted, wants(wanted, value))
        })
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    value.as_integer().and_then(|digits| i64::from_str_radix(digits.as_str(), digits.radix()).ok())
}

/// A time longer than none: `"1h 30m"`, or a number of seconds.
pub(super) fn time(value: &DeValue<'_>) -> Result<Span, InvalidValue> {
    span(value).ok_or_else(|| wants("a time such as `10m`, `1h 30m` or a number of seconds", value))
}

/// A time, which may be none (`"0s"`).
pub(super) fn time_or_none(value: &DeValue<'_>) -> Result<Span, InvalidValue> {
    let none = integer(value) == Some(0) || value.as_str().and_then(super::parse_span) == Some(Span::ZERO);
    if none { Ok(Span::ZERO) } else { time(value) }
}

/// A time longer than none, or `None` for `"forever"` and -1.
pub(super) fn time_or_forever(value: &DeValue<'_>) -> Result<Option<Span>, InvalidValue> {
    if value.as_str() == Some("forever") || integer(value) == Some(-1) {
        return Ok(None);
    }
    let wanted = "a time such as `10m`, `1h 30m`, a number of seconds or `forever`";
    span(value).map(Some).ok_or_else(|| wants(wanted, value))
}

fn span(value: &DeValue<'_>) -> Option<Span> {
    let span = match value {
        DeValue::String(text) => super::parse_span(text)?,
        _ => Span::from_secs(integer(value)?.try_into().ok()?),
    };
    Some(span).filter(|span| *span > Span::ZERO)
}

/// A path that does not hang on where the daemon was started.
pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, InvalidValue> {
    let absolute = value.as_str().filter(|text| text.starts_with('/') && !text.contains('\0'));
    absolute.map(PathBuf::from).ok_or_else(|| wants("an absolute path, such as `/var/lib/banstream`", value))
}

/// A path that fits into a socket's address, which has room for 107 bytes (unix(7)).
pub(super) fn socket_path(value: &DeValue<'_>) -> Result<PathBuf, InvalidValue> {
    let path = path(value)?;
    if path.as_os_str().len() <= 107 { Ok(path) } else { Err(wants("a path of at most 107 bytes", value)) }
}

/// What `read` makes of a text, or `None` for an empty one.
pub(super) fn unless_empty<T>(
    read: impl Fn(&DeValue<'_>) -> Result<T, InvalidValue>,
) -> impl Fn(&DeValue<'_>) -> Result<Option<T>, InvalidValue> {
    move |value| if value.as_str() == Some("") { Ok(None) } else { read(value).map(Some) }
}

/// A field of a grammar, or a part of it: `request` or `request.path`.
pub(super) fn field(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let is_word =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !text.is_empty();
    let is_field = |text: &&str| {
        let (field, part) = text.split_once('.').unwrap_or((text, "path"));
        is_word(field) && matches!(part, "method" | "path")
    };
    value
        .as_str()
        .filter(is_field)
        .map(str::to_owned)
        .ok_or_else(|| wants("the name of a field, such as `request` or `request.path`", value))
}

/// A text of one or more words without control characters.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let plain = value.as_str().filter(|text| !text.trim().is_empty() && !text.contains(is_harmful));
    plain.map(str::to_owned).ok_or_else(|| wants("a text", value))
}

/// A name of at most `longest` letters, digits, `-`, `_` and `.`, which does not begin with `-`.
///
/// What the kernel, iptables, a file name and a metric's label all take.
pub(super) fn name(longest: usize) -> impl Fn(&DeValue<'_>) -> Result<String, InvalidValue> {
    move |value| {
        let name = value.as_str().filter(|text| text.len() <= longest && is_name(text));
        name.map(str::to_owned).ok_or_else(|| {
            wants(format_args!("a name of at most {longest} letters, digits, `-`, `_` or `.`"), value)
        })
    }
}

/// Whether `text` is made of letters, digits, `-`, `_` and `.` only, and does not begin with `-`.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// One of these names. A `what` of names in backticks lists them all.
pub(super) fn one_of<'n>(
    what: &str,
    known: &[&'n str],
    value: &DeValue<'_>,
) -> Result<&'n str, InvalidValue> {
    let Some(name) = value.as_str() else { return Err(wants(what, value)) };
    known.iter().copied().find(|candidate| *candidate == name).ok_or_else(|| {
        let InvalidValue(wanted) = wants(what, value);
        let known = known.iter().copied();
        let hint =
            if what.starts_with('`') { meant(name, known) } else { Some(nearest(name, "names", known)) };
        InvalidValue(hint.map_or_else(|| wanted.clone(), |hint| format!("{wanted}; {hint}")))
    })
}

/// One of these grammars.
pub(super) fn grammar<'n>(known: &[&'n str], value: &DeValue<'_>) -> Result<&'n str, InvalidValue> {
    let what = "a grammar that comes with banstream or is in `grammar-directory`";
    one_of(what, known, value).map_err(|InvalidValue(wanted)| {
        let filter = value.as_str().and_then(words::filter);
        InvalidValue(match filter {
            Some(filter) if filter.counted.is_empty() => {
                let InvalidValue(wanted) = wants(what, value);
                format!("{wanted}; fail2ban's filter: {}", filter.note)
            }
            Some(filter) => {
                let InvalidValue(wanted) = wants(what, value);
                format!("{wanted}; fail2ban's filter is here {}", filter.as_written())
            }
            None => wanted,
        })
    })
}

/// Who is not banned: an address or a prefix, or a file of them.
pub(super) enum Ignored {
    Offender(Offender),
    File(PathBuf),
}

/// An address or a prefix.
pub(super) fn offender(value: &DeValue<'_>) -> Result<Offender, InvalidValue> {
    let wanted = "an address or prefix such as `192.0.2.0/24`";
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wants(wanted, value))
}

/// The length of the widest prefix that is banned or exempt without a question.
pub fn widest(offender: Offender) -> u8 {
    if offender.address().is_ipv4() { 8 } else { 32 }
}

/// What an exemption of so many means, if it is hardly meant.
pub(super) fn wide(offender: Offender) -> Option<String> {
    let family = if offender.address().is_ipv4() { "IPv4" } else { "IPv6" };
    match offender.prefix() {
        0 => Some(format!("`{offender}` exempts every {family} address, so none is ever banned")),
        prefix if prefix < widest(offender) => {
            Some(format!("`{offender}` is wider than /{}; no address in it is ever banned", widest(offender)))
        }
        _ => None,
    }
}

/// An IPv6 prefix that has room for an IPv4 address behind it (RFC 6052, 2.2).
pub(super) fn nat64(value: &DeValue<'_>) -> Result<Offender, InvalidValue> {
    let read = value.as_str().and_then(|text| text.parse::<Offender>().ok());
    let fits = |prefix: &Offender| prefix.address().is_ipv6() && (32..=96).contains(&prefix.prefix());
    read.filter(fits).ok_or_else(|| wants("an IPv6 prefix of /32 to /96 such as `2001:db8:64::/96`", value))
}

/// An address, a prefix, or `file:` with a path from the root.
pub(super) fn ignored(value: &DeValue<'_>) -> Result<Ignored, InvalidValue> {
    let read = |text: &str| match text.strip_prefix("file:") {
        None => text.parse().ok().map(Ignored::Offender),
        Some(path) => {
            (path.starts_with('/') && !path.contains('\0')).then(|| Ignored::File(PathBuf::from(path)))
        }
    };
    let wanted =
        "an address, a prefix such as `192.0.2.0/24`, or a file such as `file:/etc/banstream/allow.list`";
    value.as_str().and_then(read).ok_or_else(|| wants(wanted, value))
}

/// An address with a port, to listen on.
pub(super) fn socket_address(value: &DeValue<'_>) -> Result<SocketAddr, InvalidValue> {
    let wanted = "an address with a port, such as `127.0.0.1:9634`";
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wants(wanted, value))
}

/// Where to post something. What is secret in it is not shown.
pub(super) fn url(value: &DeValue<'_>) -> Result<Uri, InvalidValue> {
    let url = value.as_str().and_then(|text| text.parse::<Uri>().ok()).filter(|url| {
        let host =
            url.authority().is_some_and(|host| !host.host().is_empty() && !host.as_str().contains('@'));
        host && matches!(url.scheme_str(), Some("http" | "https"))
    });
    url.ok_or_else(|| InvalidValue("must be a URL such as `https://example.org/path`".into()))
}

/// The URL of a server of NATS.
pub(super) fn server(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let wrong = || wants("a server such as `nats://192.0.2.1:4222` or `tls://nats.example.org`", value);
    let url: Uri = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let is_server = matches!(url.scheme_str(), Some("nats" | "tls")) && url.host().is_some();
    // Credentials have a file of their own, since everybody may read the configuration.
    let has_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if is_server && !has_user { Ok(url.to_string()) } else { Err(wrong()) }
}

/// Whether this is the public part of an NKEY of a user.
pub fn is_public_key(text: &str) -> bool {
    // Without the feature its table is refused anyway.
    #[cfg(feature = "fleet")]
    let is_sound = nkeys::from_public_key(text).is_ok();
    #[cfg(not(feature = "fleet"))]
    let is_sound = true;
    text.starts_with('U') && is_sound
}

/// The public part of an NKEY of a user.
pub(super) fn public_key(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let key = value.as_str().filter(|text| is_public_key(text)).map(str::to_owned);
    key.ok_or_else(|| wants("the public NKEY of a user, which begins with `U`", value))
}

/// A header of HTTP: `Name: value`. What is secret in it is not shown.
pub(super) fn header(value: &DeValue<'_>) -> Result<(HeaderName, HeaderValue), InvalidValue> {
    let read = |text: &str| {
        let (name, value) = text.split_once(':')?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    };
    let wanted = "must be headers such as `X-Api-Key: 123`";
    value.as_str().and_then(read).ok_or_else(|| InvalidValue(wanted.into()))
}

/// One address of mail, of which nothing can be taken for a second one or for another header.
pub(super) fn mailbox(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@.-_+=".contains(&byte);
    let mailbox = value.as_str().filter(|text| {
        !text.is_empty() && !text.starts_with('-') && text.len() <= 254 && text.bytes().all(plain)
    });
    mailbox.map(str::to_owned).ok_or_else(|| wants("one address such as `root@localhost`", value))
}

/// Ports of one protocol, TCP if it does not say: `22`, `"22/tcp"`, `"80,443"`.
pub(super) fn ports(value: &DeValue<'_>) -> Result<Vec<Port>, InvalidValue> {
    let text = match value {
        DeValue::String(text) => text.clone(),
        DeValue::Integer(_) => integer(value).map_or(Cow::Borrowed(""), |number| number.to_string().into()),
        _ => Cow::Borrowed(""),
    };
    let (numbers, protocol) = match text.split_once('/') {
        None => (text.as_ref(), Some(Protocol::Tcp)),
        Some((numbers, "tcp")) => (numbers, Some(Protocol::Tcp)),
        Some((numbers, "udp")) => (numbers, Some(Protocol::Udp)),
        Some((numbers, _)) => (numbers, None),
    };
    let port = |number: &str| {
        let number = number.trim().parse().ok().filter(|number| *number > 0)?;
        Some(Port { protocol: protocol?, number })
    };
    let ports: Option<Vec<Port>> = numbers.split(',').map(port).collect();
    ports.ok_or_else(|| {
        let InvalidValue(wanted) = wants("ports such as `22`, `22/tcp` or `80,443`", value);
        let numbers = words::port_numbers(numbers);
        InvalidValue(numbers.map_or_else(|| wanted.clone(), |numbers| format!("{wanted}; write `{numbers}`")))
    })
}

/// A command line: a text that is split at its spaces, or a list of words.
pub(super) fn words(value: &DeValue<'_>) -> Result<Vec<String>, InvalidValue> {
    let words: Option<Vec<String>> = match value {
        DeValue::Array(items) => items.iter().map(|item| text(item.get_ref()).ok()).collect(),
        _ => value.as_str().map(|text| text.split_whitespace().map(str::to_owned).collect()),
    };
    words
        .filter(|words| !words.is_empty())
        .ok_or_else(|| wants("a target such as `DROP`, with its options", value))
}
