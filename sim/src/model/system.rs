//! What the system tells of this process: its time, its memory, and how much there is to have.

use std::fs;
use std::path::{Path, PathBuf};

/// Processor time of this process so far; 0 where the system does not tell.
pub(crate) fn processor_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have spaces in it, the 12th and the 13th: hundredths of a
    // second in user and in system mode.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum::<u64>()
        * 10
}

/// The most memory that this process has held; 0 where the system does not tell.
pub(crate) fn peak_bytes() -> u64 {
    kilobytes(Path::new("/proc/self/status"), "VmHWM:").unwrap_or(0) * 1024
}

/// The memory that this process holds; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    kilobytes(Path::new("/proc/self/status"), "VmRSS:").unwrap_or(0) * 1024
}

/// The memory that is there for new work, in bytes: what the machine has free, and no more than
/// any control group leaves that this process is in. Where the system does not tell, there is no
/// limit.
///
/// ```
/// assert!(selvedge_sim::model::available_bytes() > 0);
/// ```
#[must_use]
pub fn available_bytes() -> u64 {
    available(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

fn available(proc: &Path, groups: &Path) -> u64 {
    let machine = kilobytes(&proc.join("meminfo"), "MemAvailable:").map(|kb| kb * 1024);
    let of = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let in_groups = of.lines().filter_map(|line| left_in(line, groups));
    machine
        .into_iter()
        .chain(in_groups)
        .min()
        .unwrap_or(u64::MAX)
}

/// What the groups of one line of `/proc/self/cgroup` leave, which is `number:controllers:path`.
fn left_in(line: &str, groups: &Path) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.trim_start_matches('/');
    if controllers.is_empty() {
        let names = ["memory.max", "memory.current", "inactive_file"];
        return least_left(groups, path, names);
    }
    let of_memory = controllers.split(',').any(|name| name == "memory");
    let names = [
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ];
    let root = groups.join("memory");
    of_memory.then(|| least_left(&root, path, names)).flatten()
}

/// The least that a group or one that it is in leaves. In a container the group's own folder may
/// be out of sight, and the root is the container's.
fn least_left(root: &Path, path: &str, names: [&str; 3]) -> Option<u64> {
    let own: PathBuf = root.join(path);
    let up = own
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    up.filter_map(|folder| left(folder, names)).min()
}

fn left(folder: &Path, [limit, usage, cache]: [&str; 3]) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    // No number ("max") is no limit.
    let limit = number(limit)?;
    // Files that nobody has looked at lately are given up first.
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
    let cache = lines.find(|(key, _)| *key == cache);
    let cache = cache.and_then(|(_, bytes)| bytes.trim().parse().ok());
    let used = number(usage)?.saturating_sub(cache.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

fn kilobytes(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with 8 GB free, whose files are these.
    fn machine(files: &[(&str, &str)]) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let all = [("proc/meminfo", "MemFree: 1 kB\nMemAvailable: 8000000 kB\n")];
        for (name, text) in all.iter().chain(files) {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        available(&dir.path().join("proc"), &dir.path().join("groups"))
    }

    const FREE: u64 = 8_000_000 * 1024;

    #[test]
    fn without_groups_it_is_what_the_machine_has_free() {
        assert_eq!(machine(&[]), FREE);
        let nowhere = Path::new("/there/is/no/such/folder");
        assert_eq!(available(nowhere, nowhere), u64::MAX);
        assert_eq!(machine(&[("proc/self/cgroup", "nonsense\n\n1:x\n")]), FREE);
    }

    #[test]
    fn the_tightest_group_counts_wherever_it_is() {
        let group = ("proc/self/cgroup", "0::/user/job\n");
        // The inner one has no limit; the outer one has 3,000 left, of which 500 are old files.
        let outer = [
            group,
            ("groups/user/job/memory.max", "max\n"),
            ("groups/user/job/memory.current", "700\n"),
            ("groups/user/memory.max", "10000\n"),
            ("groups/user/memory.current", "7500\n"),
            (
                "groups/user/memory.stat",
                "anon 1\ninactive_file 500\nfile 9\n",
            ),
        ];
        assert_eq!(machine(&outer), 3_000);
        // In a container: its own folder cannot be seen, and it is over its limit.
        let root = [
            group,
            ("groups/memory.max", "1000\n"),
            ("groups/memory.current", "1001\n"),
        ];
        assert_eq!(machine(&root), 0);
    }

    #[test]
    fn groups_of_the_first_version_count_too() {
        let own = "9:name=systemd:/x\n4:cpu,memory:/job\n0::/\n";
        let files = [
            ("proc/self/cgroup", own),
            ("groups/memory/job/memory.limit_in_bytes", "5000\n"),
            ("groups/memory/job/memory.usage_in_bytes", "1000\n"),
            (
                "groups/memory/job/memory.stat",
                "inactive_file 7\ntotal_inactive_file 200\n",
            ),
            // How the first version says that there is no limit.
            (
                "groups/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("groups/memory/memory.usage_in_bytes", "1000\n"),
        ];
        assert_eq!(machine(&files), 4_200);
    }
}
