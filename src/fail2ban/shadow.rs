//! Both side by side: fail2ban bans, and banstream only observes, until the switch.

use std::path::Path;

use anyhow::{Context, bail};

use crate::config::load;
use crate::model::Mode;
use crate::tools::setup::{self, FileChange, WriteTarget};

/// What our drop-in says then, at its top.
pub(super) const LINES: &str = "\
# Only observes while fail2ban goes on; `banstream import fail2ban --switch` removes these two lines.
mode = \"observe\"
";

/// Whether this drop-in lets banstream only observe.
pub(super) fn is_on(drop_in: &str) -> bool {
    drop_in.contains(LINES)
}

/// Checks that nothing enforces once these changes are made.
///
/// # Errors
///
/// Something does: which line says so.
pub(super) fn check(config: Option<&Path>, changes: &[FileChange]) -> anyhow::Result<()> {
    let changed = changes.iter().map(|change| (change.path.as_path(), change.after.as_deref()));
    let loaded = load::with(config, changed).context("nothing was written")?;
    if loaded.config.enforce.is_none() {
        return Ok(());
    }
    let enforces = |value: &str| value.trim_matches(['"', '\'']) == Mode::Enforce.name();
    let found = loaded.written.iter().find(|one| one.key == "mode" && !one.inherited && enforces(&one.value));
    match found.and_then(|one| Some((one, one.file.as_ref()?, one.line?))) {
        Some((one, file, line)) => bail!(
            "nothing was written: banstream would enforce, since {}:{line} says `mode = {}`",
            file.display(),
            one.value
        ),
        None => bail!("nothing was written: banstream would enforce all the same"),
    }
}

/// Lets banstream enforce, and then does `rest`, which takes fail2ban's place. If that fails, banstream only observes again.
/// What was done, in words.
///
/// # Errors
///
/// The drop-in cannot be written, the daemon refuses it, or `rest` fails.
pub(super) fn end(
    drop_in: &str,
    target: &WriteTarget<'_>,
    rest: impl FnOnce() -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<Vec<String>> {
    let (observes, enforces) = (Some(drop_in.to_owned()), Some(drop_in.replace(LINES, "")));
    let change = |before: &Option<String>, after: &Option<String>| -> Vec<FileChange> {
        FileChange::new(target.drop_in, before.clone(), after.clone(), String::new()).into_iter().collect()
    };
    let mut done = vec![format!("banstream enforces from now on: {}", target.drop_in.display())];
    done.extend(setup::apply(&change(&observes, &enforces), target)?);
    match rest() {
        Ok(more) => {
            done.extend(more);
            Ok(done)
        }
        Err(error) => match setup::apply(&change(&enforces, &observes), target) {
            Ok(_) => Err(error.context("banstream only observes again")),
            Err(other) => Err(error.context(format!("banstream goes on to enforce: {other:#}"))),
        },
    }
}
