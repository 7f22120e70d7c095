//! Why nobody can go on, in words.

use super::access::Kind;
use super::record::{Gate, Record};

/// Who waits for what, who holds it, and the cycle if there is one.
pub(super) fn deadlock(record: &Record) -> String {
    let stuck: Vec<u32> = (record.live.iter().copied())
        .filter(|&id| !record.task(id).finished)
        .collect();
    let mut text = "deadlock: ".to_owned();
    let told: Vec<String> = stuck.iter().map(|&id| waits(record, id)).collect();
    text.push_str(&told.join("; "));
    if let Some(cycle) = cycle(record, &stuck) {
        let path: Vec<String> = cycle.iter().map(|&id| record.names.path(id)).collect();
        text.push_str(&format!(
            "; the cycle: {} -> {}",
            path.join(" -> "),
            path[0]
        ));
    }
    text
}

fn waits(record: &Record, id: u32) -> String {
    let task = record.task(id);
    let who = record.names.path(id);
    let object = record.objects.get(task.pending.object as usize);
    let holds: Vec<String> = (record.objects.iter().zip(0..))
        .filter(|(object, _)| object.holders.contains(&id))
        .map(|(object, number)| format!("{} {}", object.what, record.names.object_path(number)))
        .collect();
    let holding = match holds.is_empty() {
        true => String::new(),
        false => format!(" holds {} and", holds.join(", ")),
    };
    let path = record.names.object_path(task.pending.object);
    let wanted = match (task.gate, object) {
        (Gate::Joined(other), _) => format!("the end of task {}", record.names.path(other)),
        (Gate::Notified, _) => "a notification".to_owned(),
        (_, Some(_)) if task.pending.kind == Kind::Park => "an unpark".to_owned(),
        (_, Some(object)) => {
            let holders: Vec<String> = object
                .holders
                .iter()
                .map(|&id| record.names.path(id))
                .collect();
            format!("{} {path} held by task {}", object.what, holders.join(", "))
        }
        _ => "nothing known".to_owned(),
    };
    format!("task {who}{holding} waits for {wanted}")
}

/// Tasks each of which waits for the next.
fn cycle(record: &Record, stuck: &[u32]) -> Option<Vec<u32>> {
    for &start in stuck {
        let mut path = vec![start];
        while let Some(next) = path.last().and_then(|&id| waits_for(record, id)) {
            if let Some(place) = path.iter().position(|&id| id == next) {
                return Some(path.split_off(place));
            }
            path.push(next);
        }
    }
    None
}

fn waits_for(record: &Record, id: u32) -> Option<u32> {
    let task = record.task(id);
    match task.gate {
        Gate::Joined(other) => Some(other),
        Gate::Notified => None,
        _ => (record.objects.get(task.pending.object as usize))
            .and_then(|object| object.holders.first().copied())
            .filter(|_| task.pending.kind != Kind::Park),
    }
}
