//! Which offences filled a window: the one that did, and those before it that stood in the window.
//!
//! That is not written down, since the rows of one offender are anywhere in the table and to find them costs more than to
//! write them. It follows from the rows themselves, by one walk from the last to the first.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::detect::WindowEffect;
use crate::model::Offender;

/// Knows which windows the walk has met that are not all told yet.
#[derive(Default)]
pub(super) struct FilledWindows {
    open: HashMap<(Offender, Arc<str>), OpenWindow>,
}

struct OpenWindow {
    /// How many of its offences have not been met.
    left: u8,
    /// The values that have, where the jail counts values: of each the last line counts.
    values: Vec<u64>,
}

impl FilledWindows {
    /// Whether all windows are told: then it does not matter whose an offence is that filled one alone, or filled none.
    pub(super) fn are_closed(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether this offence filled a window, or helped to. It is to be asked about all, the last first.
    pub(super) fn is_evidence(
        &mut self,
        offender: Offender,
        jail: &Arc<str>,
        effect: WindowEffect,
        value: u64,
    ) -> bool {
        match effect {
            WindowEffect::Nothing => false,
            WindowEffect::Filled(full) => {
                let key = (offender, Arc::clone(jail));
                match full {
                    0 | 1 => drop(self.open.remove(&key)),
                    _ => drop(self.open.insert(key, OpenWindow { left: full - 1, values: vec![value] })),
                }
                true
            }
            WindowEffect::Counted if self.open.is_empty() => false,
            WindowEffect::Counted => {
                let key = (offender, Arc::clone(jail));
                let Some(window) = self.open.get_mut(&key) else { return false };
                if value != 0 && window.values.contains(&value) {
                    return false;
                }
                window.values.extend((value != 0).then_some(value));
                window.left -= 1;
                if window.left == 0 {
                    self.open.remove(&key);
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: WindowEffect = WindowEffect::Counted;
    const N: WindowEffect = WindowEffect::Nothing;

    /// Which of these offences of one offender, with their values and from the first to the last, are evidence.
    #[track_caller]
    fn check(offences: &[(WindowEffect, u64)], want: &[usize]) {
        let (mut windows, who, jail) = (FilledWindows::default(), "192.0.2.1".parse().unwrap(), "j".into());
        let mut is_evidence = |&(effect, value): &(WindowEffect, u64)| {
            // What others did is not in the way.
            windows.is_evidence(who, &"other".into(), WindowEffect::Filled(9), 0);
            windows.is_evidence(who, &jail, effect, value)
        };
        let found = offences.iter().enumerate().rev().filter(|(_, offence)| is_evidence(offence));
        let mut found: Vec<usize> = found.map(|(nth, _)| nth).collect();
        found.reverse();
        assert_eq!(found, want);
    }

    #[test]
    fn the_last_that_counted_filled_the_window() {
        let filled = WindowEffect::Filled(3);
        check(&[(C, 0), (C, 0), (N, 0), (C, 0), (filled, 0), (C, 0)], &[1, 3, 4]);
        check(&[(WindowEffect::Filled(1), 0), (C, 0)], &[0]);
        // What is older belongs to the window before.
        check(&[(C, 0), (WindowEffect::Filled(2), 0), (C, 0), (filled, 0)], &[0, 1, 2, 3]);
        check(&[(C, 0), (WindowEffect::Filled(1), 0), (C, 0), (filled, 0)], &[1, 2, 3]);
    }

    #[test]
    fn of_a_value_that_stood_twice_the_last_line_counts() {
        let values = [u64::MAX, 5, u64::MAX, 5, 0].map(|value| (C, value));
        check(&[&values[..], &[(WindowEffect::Filled(4), 9)]].concat(), &[2, 3, 4, 5]);
        check(&[(C, 9), (C, 8), (WindowEffect::Filled(2), 9)], &[1, 2]);
    }
}
