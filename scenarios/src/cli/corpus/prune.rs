//! `selvedge corpus prune`: what is of no use any more goes, and is told.

use super::{PruneArgs, complain_of_problems, in_parallel, look};
use crate::cli::check::{on_ctrl_c, own_children};
use crate::cli::{Exit, Stop, say};
use crate::corpus::store::{Edit, change};
use crate::corpus::{Entry, Finding};

pub(super) fn prune(args: &PruneArgs) -> Result<Exit, Stop> {
    let corpus = args.place.read()?;
    // What cannot be read is nobody's to throw away.
    let bad = complain_of_problems(&corpus);
    on_ctrl_c()?;
    let children = own_children()?;
    let entries: Vec<&Entry> = corpus.entries().collect();
    let mut findings: Vec<Option<Finding>> = vec![None; entries.len()];
    let replay = |entry: &&Entry| look(&children, entry);
    in_parallel(&entries, args.place.jobs(), replay, |at, finding| {
        findings[at] = Some(finding);
    });
    let findings: Vec<Finding> = findings.into_iter().flatten().collect();
    if findings.contains(&Finding::Interrupted) {
        return Err(super::add::interrupted());
    }
    let useless = useless(&entries, &findings);
    for (entry, why) in &useless {
        say(&format!("{}: {}: {why}", entry.place, entry.name))?;
    }
    if !args.dry_run {
        let mut rest = &useless[..];
        while let Some(((first, _), _)) = rest.split_first() {
            let file = &first.place.file;
            let here = rest
                .iter()
                .take_while(|(entry, _)| entry.place.file == *file);
            let edits: Vec<Edit> = here.map(|(e, _)| Edit::Remove(e.place.index)).collect();
            change(file, &edits).map_err(Stop::usage)?;
            rest = &rest[edits.len()..];
        }
    }
    let would = if args.dry_run { "would be " } else { "" };
    say(&format!(
        "{} of {} regressions {would}removed",
        useless.len(),
        entries.len()
    ))?;
    Ok(if bad { Exit::Usage } else { Exit::Ok })
}

/// The entries that are stale, and all but the first of one bug that are not; in the order of the
/// files.
fn useless<'a>(entries: &[&'a Entry], findings: &[Finding]) -> Vec<(&'a Entry, String)> {
    let mut kept: Vec<&Entry> = Vec::new();
    let mut useless = Vec::new();
    for (&entry, finding) in entries.iter().zip(findings) {
        let twice = kept.iter().find(|other| other.is_same_bug(entry));
        if finding.is_stale() {
            useless.push((entry, format!("{}, {}", finding.word(), finding.why())));
        } else if let Some(other) = twice {
            useless.push((entry, format!("the same bug as {}", other.name)));
        } else {
            kept.push(entry);
        }
    }
    useless
}
