//! Counts forged lines by local user id, for a batch and since the start. Its size is bounded, because a user who can
//! create users must not make our memory and our metrics grow.

/// User ids that are told apart.
const MOST: usize = 64;

/// How many lines each user id has forged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgers {
    known: Vec<(u32, u64)>,
    others: u64,
}

impl Forgers {
    /// Counts lines of a user id, or of all that are no longer told apart.
    pub fn count(&mut self, uid: Option<u32>, lines: u64) {
        let at = uid.map(|uid| (uid, self.known.iter().position(|(known, _)| *known == uid)));
        match at {
            Some((_, Some(at))) => self.known.get_mut(at).into_iter().for_each(|(_, known)| *known += lines),
            Some((uid, None)) if self.known.len() < MOST => self.known.push((uid, lines)),
            _ => self.others += lines,
        }
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        other.iter().for_each(|(uid, lines)| self.count(uid, lines));
    }

    /// The user ids with their lines, in the order in which they came; `None` for all others together.
    pub fn iter(&self) -> impl Iterator<Item = (Option<u32>, u64)> {
        let others = (self.others > 0).then_some((None, self.others));
        self.known.iter().map(|(uid, lines)| (Some(*uid), *lines)).chain(others)
    }

    /// Forgets all, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.others = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_users_are_told_apart() {
        let mut forgers = Forgers::default();
        (0..=MOST as u32).for_each(|uid| forgers.count(Some(uid), 1));
        forgers.count(Some(3), 5);
        let mut twice = forgers.clone();
        twice.add(&forgers);
        assert_eq!(twice.iter().count(), MOST + 1);
        assert_eq!(twice.iter().nth(3), Some((Some(3), 12)));
        assert_eq!(twice.iter().last(), Some((None, 2)));
    }
}
