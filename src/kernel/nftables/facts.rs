//! What the kernel has of a table. `doctor` looks here, too: it does not trust what the daemon says of the table.

use std::collections::{BTreeMap, BTreeSet};

use super::super::change::{Element, Family, Layout, Set, Timeout};
use super::super::{ElementState, EnforceError, EnforceErrorKind};
use super::connection::Connection;
use super::{ENOENT, refusal, wire};
use crate::model::{Offender, Port};

/// Which table it is, by the kernel's numbers: what is made again has other ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableShape {
    pub table: u64,
    pub flags: u32,
    pub owner: Option<u32>,
    pub chain: Option<u64>,
    pub rules: Vec<u64>,
    pub sets: BTreeMap<String, u64>,
}

impl TableShape {
    /// The one with this name; `None` without one.
    pub(super) fn look(reader: &mut Connection, name: &str) -> Result<Option<Self>, EnforceError> {
        Ok(look(reader, name)?.map(|(shape, _)| shape))
    }

    /// Those of its sets that are ours by their names.
    pub(super) fn our_sets(&self) -> BTreeSet<Set> {
        self.sets.keys().filter_map(|name| set_of(name)).collect()
    }
}

/// The set with this name.
fn set_of(name: &str) -> Option<Set> {
    let (name, has_ports) = name.strip_suffix("_ports").map_or((name, false), |name| (name, true));
    let (family, length) = name.split_once('_')?;
    let (family, most) = match family {
        "ipv4" => (Family::V4, 32),
        "ipv6" => (Family::V6, 128),
        _ => return None,
    };
    let length: u8 = length.parse().ok().filter(|length| (1..=most).contains(length))?;
    Some(Set { family, has_ports, length: Some(length) })
}

/// How a table does its work: with one chain, and a rule for each set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// The port of the netlink socket that it belongs to, if it belongs to one.
    pub owner: Option<u32>,
    /// Whether its chain sees each packet as it arrives, before connections are tracked.
    pub is_hooked: bool,
    /// Its sets, by their names.
    pub sets: Vec<TableSet>,
}

/// A set of such a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSet {
    /// Its name.
    pub name: String,
    /// Its elements, if the kernel says how many: since 6.16.
    pub elements: Option<u32>,
    /// Room for them.
    pub capacity: u32,
    /// Whether a rule looks into it.
    pub has_rule: bool,
}

impl TableFacts {
    /// How the table `inet NAME` is; `None` without one.
    ///
    /// # Errors
    ///
    /// The kernel has no nftables, or we may not look.
    pub fn look(name: &str) -> Result<Option<Self>, EnforceError> {
        let mut reader = Connection::open().map_err(EnforceErrorKind::Socket)?;
        Ok(look(&mut reader, name)?.map(|(_, facts)| facts))
    }

    /// All its elements, if the kernel says how many there are.
    pub fn elements(&self) -> Option<u64> {
        self.sets.iter().map(|set| set.elements.map(u64::from)).sum()
    }
}

/// What there is of the table; `None` without one.
fn look(reader: &mut Connection, name: &str) -> Result<Option<(TableShape, TableFacts)>, EnforceError> {
    let (mut shape, mut facts) = (TableShape::default(), TableFacts::default());
    let table =
        reader.ask(wire::get_table(name), |table| (shape.table, shape.flags, shape.owner) = table.table())?;
    match table {
        Ok(()) => facts.owner = shape.owner,
        Err(ENOENT) => return Ok(None),
        Err(code) => return Err(EnforceErrorKind::NoNftables(code).into()),
    }
    let chain = reader.ask(wire::get_chain(name), |chain| {
        shape.chain = Some(chain.chain());
        facts.is_hooked = chain.is_early() && shape.flags & wire::DORMANT == 0;
    })?;
    let mut looked_into = BTreeSet::new();
    let rules = reader.ask(wire::get_rules(name), |rule| {
        shape.rules.push(rule.rule());
        looked_into.extend(rule.lookups());
    })?;
    let sets = reader.ask(wire::get_sets(name), |set| {
        let (name, number) = set.set();
        shape.sets.insert(name.clone(), number);
        let (has_rule, elements) = (looked_into.contains(&name), set.count());
        facts.sets.push(TableSet { name, elements, capacity: set.capacity(), has_rule });
    })?;
    facts.sets.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    // Without the chain its rules cannot be there either.
    let failed = [chain, rules, sets].into_iter().filter_map(Result::err).find(|code| *code != ENOENT);
    match failed {
        None => Ok(Some((shape, facts))),
        Some(code) => Err(refusal("describe", name, code)),
    }
}

/// What the kernel has of this element itself, if it has it.
pub(super) fn find(
    reader: &mut Connection,
    table: &str,
    element: &Element,
) -> Result<Option<ElementState>, EnforceError> {
    let set = element.set(Layout::ByLength);
    let mut state = None;
    let asked = reader.ask(wire::get_element(table, set, element), |part| {
        state = part.elements(set).flatten().next().map(|(element, left, counters)| ElementState {
            set: set.name(table),
            element,
            left: (left != Timeout::FOREVER).then(|| left.as_secs()),
            counters,
        });
    })?;
    match asked {
        Ok(()) | Err(ENOENT) => Ok(state),
        Err(code) => Err(refusal("list", table, code)),
    }
}

/// What it has of an offender on these ports, and around it.
pub(super) fn held(
    reader: &mut Connection,
    table: &str,
    who: Offender,
    ports: &BTreeSet<Option<Port>>,
) -> Result<Vec<ElementState>, EnforceError> {
    let sets = TableShape::look(reader, table)?.as_ref().map(TableShape::our_sets).unwrap_or_default();
    let mut held = Vec::new();
    for set in sets.into_iter().filter(|set| set.family == Family::of(who)) {
        let around = set.length.filter(|length| *length <= who.prefix());
        let around = around.and_then(|length| Offender::new(who.address(), length));
        for port in ports.iter().filter(|port| port.is_some() == set.has_ports) {
            let element = around.map(|offender| Element { offender, port: *port });
            held.extend(element.map(|element| find(reader, table, &element)).transpose()?.flatten());
        }
    }
    Ok(held)
}
