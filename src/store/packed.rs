//! Traces and decisions in few bytes, while they wait to be written: a flood brings more than the ledger takes, and each
//! would have 180 bytes otherwise.

use std::net::IpAddr;
use std::sync::Arc;

use crate::detect::{Session, Trace, WindowEffect};
use crate::model::{Ban, BanTerms, CategoryId, Decision, GrammarId, Offender, SessionId, Timestamp};

/// Some traces, and some decisions.
#[derive(Clone, Debug, Default)]
pub struct PackedRows {
    bytes: Vec<u8>,
    /// Jails and terms, each as often as another comes after it.
    jails: Vec<Arc<str>>,
    terms: Vec<Arc<BanTerms>>,
    traces: usize,
    decisions: usize,
}

/// Room for a row, about.
const ROW: usize = 64;
/// From so many bytes on, the allocator gives a buffer pages of its own, and gives them back to the system with it. Buffers
/// among others leave holes: of the pages that had waited for the ledger in a flood of a million offences 47 MB stayed.
const OWN_PAGES: usize = 128 << 10;
/// The fewest bytes that are worth pages of their own.
const MANY: usize = 16 << 10;

impl PackedRows {
    pub(super) fn new(traces: &[Trace], decisions: &[Decision]) -> Self {
        let room = ROW * (traces.len() + decisions.len());
        let room = if room < MANY { room } else { room.max(OWN_PAGES) };
        let (mut packed, mut to) = (Self::default(), RowPacker { bytes: Vec::with_capacity(room), last: 0 });
        for trace in traces {
            if packed.jails.last().is_none_or(|jail| !Arc::ptr_eq(jail, &trace.jail)) {
                packed.jails.push(Arc::clone(&trace.jail));
            }
            to.number(packed.jails.len() as u64 - 1);
            to.number(trace.nth as u64);
            to.offender(trace.offender);
            to.time(trace.time);
            to.number(trace.grammar.map_or(0, |grammar| u64::from(grammar.0) + 1));
            to.number(trace.category.map_or(0, |category| u64::from(category.0) + 1));
            to.number(match trace.session_id {
                SessionId::Process(pid) => u64::from(pid) << 1,
                SessionId::Category(category) => u64::from(category.0) << 1 | 1,
            });
            to.number(trace.host.into());
            to.number(trace.value);
            to.signed(trace.effect.number());
            let session = trace.session.map(|session| (session.bytes(), session.last()));
            to.number(session.as_ref().map_or(0, |(bytes, _)| bytes.as_slice().len() as u64 + 1));
            if let Some((bytes, last)) = session {
                to.bytes.extend_from_slice(bytes.as_slice());
                to.time(last);
            }
        }
        for decision in decisions {
            let ban = decision.ban();
            if packed.terms.last().is_none_or(|terms| !Arc::ptr_eq(terms, &ban.terms)) {
                packed.terms.push(Arc::clone(&ban.terms));
            }
            to.number((packed.terms.len() as u64 - 1) << 1 | u64::from(matches!(decision, Decision::Ban(_))));
            to.offender(ban.offender);
            to.number(ban.times.into());
            to.time(ban.since);
            to.number(ban.until.is_some().into());
            ban.until.into_iter().for_each(|until| to.time(until));
        }
        to.bytes.shrink_to_fit();
        Self { bytes: to.bytes, traces: traces.len(), decisions: decisions.len(), ..packed }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.traces + self.decisions == 0
    }

    /// The bytes they take.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + (self.jails.len() + self.terms.len()) * size_of::<Arc<str>>()
    }

    /// The same as they were.
    pub(super) fn unpack(&self) -> (Vec<Trace>, Vec<Decision>) {
        let mut from = RowUnpacker { bytes: &self.bytes, last: 0 };
        let traces = (0..self.traces).map_while(|_| self.trace(&mut from)).collect();
        (traces, (0..self.decisions).map_while(|_| self.decision(&mut from)).collect())
    }

    fn trace(&self, from: &mut RowUnpacker<'_>) -> Option<Trace> {
        let jail = Arc::clone(self.jails.get(from.number()? as usize)?);
        let (nth, offender, time) = (from.number()? as usize, from.offender()?, from.time()?);
        let grammar = from.number()?.checked_sub(1).map(|grammar| GrammarId(grammar as u16));
        let category = from.number()?.checked_sub(1).map(|category| CategoryId(category as u16));
        let session_id = match from.number()? {
            pid if pid & 1 == 0 => SessionId::Process((pid >> 1) as u32),
            category => SessionId::Category(CategoryId((category >> 1) as u16)),
        };
        let (host, value) = (from.number()? as u32, from.number()?);
        let effect = WindowEffect::numbered(from.signed()?)?;
        let session = match from.number()?.checked_sub(1) {
            None => None,
            Some(length) => {
                let bytes = from.take(length as usize)?;
                Some(Session::read(bytes, from.time()?))
            }
        };
        Some(Trace { nth, jail, offender, time, grammar, category, session_id, host, value, effect, session })
    }

    fn decision(&self, from: &mut RowUnpacker<'_>) -> Option<Decision> {
        let number = from.number()?;
        let terms = Arc::clone(self.terms.get((number >> 1) as usize)?);
        let (offender, times, since) = (from.offender()?, from.number()? as u32, from.time()?);
        let until = if from.number()? == 1 { Some(from.time()?) } else { None };
        let ban = Ban { offender, times, since, until, terms };
        Some(if number & 1 == 1 { Decision::Ban(ban) } else { Decision::Unban(ban) })
    }
}

/// Writes small numbers in few bytes, and times by what has passed since the one before.
struct RowPacker {
    bytes: Vec<u8>,
    last: i64,
}

impl RowPacker {
    fn number(&mut self, mut number: u64) {
        while number >= 1 << 7 {
            self.bytes.push(number as u8 | 1 << 7);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63).cast_unsigned());
    }

    fn time(&mut self, time: Timestamp) {
        let micros = time.as_micros();
        self.signed(micros.wrapping_sub(self.last));
        self.last = micros;
    }

    fn offender(&mut self, offender: Offender) {
        match offender.address() {
            IpAddr::V4(v4) => {
                self.bytes.push(offender.prefix());
                self.bytes.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                self.bytes.push(offender.prefix() + V6);
                self.bytes.extend(v6.octets());
            }
        }
    }
}

/// What is added to the length of a prefix of IPv6: those of IPv4 are shorter.
const V6: u8 = 33;

struct RowUnpacker<'b> {
    bytes: &'b [u8],
    last: i64,
}

impl<'b> RowUnpacker<'b> {
    fn take(&mut self, most: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(most)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 1 << 7 {
                return Some(number);
            }
            shift += 7;
        }
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.last = self.last.wrapping_add(self.signed()?);
        Some(Timestamp::from_micros(self.last))
    }

    fn offender(&mut self) -> Option<Offender> {
        let [prefix] = self.array()?;
        match prefix.checked_sub(V6) {
            None => Offender::new(self.array::<4>()?.into(), prefix),
            Some(prefix) => Offender::new(self.array::<16>()?.into(), prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::manual;

    /// A number of any size.
    fn some() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
    }

    fn offender() -> impl Strategy<Value = Offender> {
        (any::<IpAddr>(), 0..=128_u8)
            .prop_filter_map("too long", |(address, prefix)| Offender::new(address, prefix))
    }

    fn trace() -> impl Strategy<Value = Trace> {
        let jail = prop_oneof![Just("sshd"), Just("ftp")];
        let session = proptest::option::of(proptest::collection::vec(any::<u16>(), 13));
        (jail, offender(), [some(), some(), some(), some()], any::<[u32; 3]>(), session).prop_map(
            |(jail, offender, [nth, time, host, value], [grammar, id, effect], session)| {
                let bytes = |numbers: Vec<u16>| -> Vec<u8> {
                    numbers.into_iter().flat_map(u16::to_le_bytes).collect()
                };
                let time = Timestamp::from_micros(time.cast_signed());
                let category = CategoryId(grammar as u16);
                Trace {
                    nth: nth as usize,
                    jail: jail.into(),
                    offender,
                    time,
                    grammar: (grammar % 3 > 0).then_some(GrammarId((grammar >> 16) as u16)),
                    category: (grammar % 5 > 0).then_some(category),
                    session_id: if id % 2 == 0 {
                        SessionId::Process(id)
                    } else {
                        SessionId::Category(category)
                    },
                    host: host as u32,
                    value,
                    effect: WindowEffect::numbered(i64::from(effect % 257) - 1).unwrap(),
                    session: session.map(|session| Session::read(&bytes(session), time)),
                }
            },
        )
    }

    fn decision() -> impl Strategy<Value = Decision> {
        (offender(), any::<[u32; 2]>(), some(), proptest::option::of(some())).prop_map(
            |(offender, [times, other], since, until)| {
                let time = |micros: u64| Timestamp::from_micros(micros.cast_signed());
                let reason = if other % 2 == 0 { "one" } else { "other" };
                let ban = Ban { times, ..manual(offender, time(since), until.map(time), reason) };
                if other % 3 == 0 { Decision::Unban(ban) } else { Decision::Ban(ban) }
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_packed_is_as_it_was(
            traces in proptest::collection::vec(trace(), 0..20),
            decisions in proptest::collection::vec(decision(), 0..20),
        ) {
            let packed = PackedRows::new(&traces, &decisions);
            prop_assert_eq!(packed.is_empty(), traces.is_empty() && decisions.is_empty());
            prop_assert_eq!(packed.unpack(), (traces, decisions));
        }
    }

    #[test]
    fn those_of_a_flood_take_few_bytes() {
        let terms = manual("192.0.2.1".parse().unwrap(), Timestamp::default(), None, "").terms;
        let jail: Arc<str> = "sshd".into();
        let row = |nth: u32| {
            let offender = Offender::single(IpAddr::from((0x0a00_0000 + nth).to_be_bytes()));
            let time = Timestamp::from_micros(1_800_000_000_000_000 + i64::from(nth));
            let until = Some(Timestamp::from_secs(1_800_003_600));
            let trace = Trace {
                nth: nth as usize,
                jail: Arc::clone(&jail),
                offender,
                time,
                grammar: Some(GrammarId(3)),
                category: Some(CategoryId(1)),
                session_id: SessionId::Process(nth + 30_000),
                host: u32::MAX,
                value: 0,
                effect: WindowEffect::Filled(1),
                session: Some(Session::read(&[1, 0, 3, 0, 1, 0], time)),
            };
            (trace, Decision::Ban(Ban { offender, times: 1, since: time, until, terms: Arc::clone(&terms) }))
        };
        let (traces, decisions): (Vec<_>, Vec<_>) = (0..1000).map(row).unzip();
        let size = PackedRows::new(&traces, &decisions).size();
        assert!(size < 60 * 1000, "{size}");
    }
}
