//! stand-in
pub mod records;
/// f
#[derive(Clone, Copy, Debug)]
pub enum Format { /// j
 Journal, /// l
 Line }
/// m
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed { /// j
 Json }
impl Malformed { /// r
 pub fn reason(self) -> &'static str { "json" } }
/// d
#[derive(Clone, Debug)]
pub struct Decoder;
impl Decoder {
 /// n
 pub fn new(_: jiff::tz::TimeZone) -> Self { Self }
 /// d
 pub fn decode<'a>(&mut self, _: Format, r: &'a mut [u8], now: crate::model::Timestamp) -> Result<crate::model::Entry<'a>, Malformed> { Ok(crate::model::Entry{time: now, program: b"sshd", pid: 0, message: r, witness: Default::default()}) }
}
