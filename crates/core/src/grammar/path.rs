//! Paths of requests as servers resolve them, so that no other spelling hides a name.

/// Room for a path that is spelt in another way; what is longer stays as it was written.
pub(super) type Room = [u8; 1024];

/// The path with percent-encoding decoded (RFC 3986, 2.1) and without empty and `.` segments. Linear; does not
/// allocate.
pub(super) fn resolved<'t>(path: &'t [u8], room: &'t mut Room) -> &'t [u8] {
    let odd = |pair: &[u8]| matches!(pair, b"//" | b"/." | [b'%', _]);
    if path.windows(2).any(odd) { resolve(path, room).unwrap_or(path) } else { path }
}

fn resolve<'t>(mut path: &[u8], room: &'t mut Room) -> Option<&'t [u8]> {
    let mut end = 0;
    while let Some((&first, behind)) = path.split_first() {
        let decoded = decoded(path);
        path = if decoded.is_some() { path.get(3..)? } else { behind };
        let byte = decoded.unwrap_or(first);
        if byte == b'/' {
            match room.get(..end)? {
                [.., b'/'] => continue,
                [.., b'/', b'.'] => {
                    end -= 1;
                    continue;
                }
                _ => {}
            }
        }
        *room.get_mut(end)? = byte;
        end += 1;
    }
    room.get(..end)
}

/// The byte that `%2e` stands for.
fn decoded(text: &[u8]) -> Option<u8> {
    let &[b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, want: &str) {
        assert_eq!(resolved(path.as_bytes(), &mut [0; 1024]), want.as_bytes(), "{path}");
    }

    #[test]
    fn a_path_has_one_spelling() {
        check("/.env", "/.env");
        check("/%2eenv", "/.env");
        check("/%2Egit%2Fconfig", "/.git/config");
        check("//admin///x/", "/admin/x/");
        check("/./a/././b", "/a/b");
        check("/a.b/.c", "/a.b/.c");
        check("/a/%2e/b", "/a/b");
        check("/../x", "/../x");
        check("/100%", "/100%");
        check("/%zz%2", "/%zz%2");
        check("/%252e", "/%2e");
        check("", "");
    }

    #[test]
    fn a_path_without_room_stays_as_it_was_written() {
        let long = format!("/%2e{}", "x".repeat(2000));
        check(&long, &long);
    }
}
