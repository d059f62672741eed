//! How much memory there is for the process.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::config::settings::MemoryLimit;

/// Limits beyond this stand for none: version 1 of cgroups has no word for that, and names the largest number of pages.
const NO_LIMIT: usize = 1 << 60;

/// In bytes; `None`: nobody looks, or nobody can tell.
pub(crate) fn limit(setting: MemoryLimit) -> Option<usize> {
    match setting {
        MemoryLimit::Bytes(bytes) => Some(bytes),
        MemoryLimit::Off => None,
        MemoryLimit::Auto => of_system(Path::new("/")),
    }
}

/// What is held for clients where nothing is set, and there is twice as much memory.
const BUDGET: usize = 256 << 20;

/// Bytes that may be held for clients: as many as are set, or half of the memory that there is, up to 256 MiB. At least `least`, without which
/// the messages of one client do not fit.
pub(crate) fn budget(set: Option<usize>, limit: Option<usize>, least: usize) -> usize {
    let half = limit.map_or(BUDGET, |limit| limit / 2);
    if let Some(set) = set.filter(|set| *set > half && limit.is_some()) {
        tracing::warn!(
            "--memory-budget: {set} bytes are more than half of the memory that there is, so the node may be full, and take no new clients, \
            before it closes the one that fills it (set {half} or less, or a larger --memory-limit)"
        );
    }
    set.unwrap_or(half.min(BUDGET).max(least))
}

/// What the container has, or else the machine; the smaller where there are both.
fn of_system(root: &Path) -> Option<usize> {
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let of_groups = memberships.lines().filter_map(|line| of_group(root, line));
    of_groups.chain(of_machine(root)).min()
}

/// The limit of a group that the process is in, or of one around it. A line is `0::/path` in version 2 of cgroups, and
/// `4:memory:/path` in version 1. In a container the path may be one outside of it: what is mounted there then begins with its own group.
fn of_group(root: &Path, line: &str) -> Option<usize> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let mount = root.join(mount);
    let mut group = PathBuf::from(path);
    let mut least = None;
    loop {
        let text = fs::read_to_string(mount.join(&group).join(file)).unwrap_or_default();
        // Version 2 says max where there is no limit.
        let limit = text.trim().parse::<usize>().ok().filter(|limit| *limit < NO_LIMIT);
        least = [least, limit].into_iter().flatten().min();
        if !group.pop() {
            return least;
        }
    }
}

fn of_machine(root: &Path) -> Option<usize> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit on a system with these files.
    fn limit_with(name: &str, files: &[(&str, &str)]) -> Option<usize> {
        let root = std::env::temp_dir().join(format!("signalbox-memory-{}-{name}", std::process::id()));
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let limit = of_system(&root);
        fs::remove_dir_all(root).unwrap();
        limit
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_machine_counts_where_no_group_has_a_limit() {
        let machine = 8_000_000 * 1024;
        assert_eq!(limit_with("machine", &[MACHINE]), Some(machine));
        let groups = ("proc/self/cgroup", "0::/a\n");
        assert_eq!(
            limit_with("max", &[MACHINE, groups, ("sys/fs/cgroup/a/memory.max", "max\n")]),
            Some(machine)
        );
        let groups = ("proc/self/cgroup", "5:cpu:/\n4:memory:/a\n");
        let none = ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_with("none", &[MACHINE, groups, none]), Some(machine));
        assert_eq!(limit_with("nothing", &[("proc/other", "")]), None);
    }

    #[test]
    fn the_least_limit_of_the_groups_around_the_process_counts() {
        let two = [
            MACHINE,
            ("proc/self/cgroup", "0::/kube/pod/box\n"),
            ("sys/fs/cgroup/kube/pod/box/memory.max", "max\n"),
            ("sys/fs/cgroup/kube/pod/memory.max", "500000000\n"),
            ("sys/fs/cgroup/kube/memory.max", "900000000\n"),
        ];
        assert_eq!(limit_with("two", &two), Some(500_000_000));
        // In a container the group's own files stand at the root of what is mounted.
        let inside = [
            MACHINE,
            ("proc/self/cgroup", "7:cpu,cpuacct:/x\n4:memory:/outside/of/it\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "300000000\n"),
        ];
        assert_eq!(limit_with("inside", &inside), Some(300_000_000));
    }

    #[test]
    fn the_budget_is_half_of_what_there_is_unless_it_is_set() {
        let gibibyte = Some(1 << 30);
        for (set, limit, budgeted) in [
            (None, gibibyte, BUDGET),
            (None, None, BUDGET),
            (None, Some(100 << 20), 50 << 20),
            (None, Some(1 << 20), 4 << 20),
            (Some(1 << 30), gibibyte, 1 << 30),
            (Some(7), gibibyte, 7),
        ] {
            assert_eq!(budget(set, limit, 4 << 20), budgeted, "{set:?} of {limit:?}");
        }
    }

    #[test]
    fn the_setting_comes_first() {
        assert_eq!((limit(MemoryLimit::Bytes(7)), limit(MemoryLimit::Off)), (Some(7), None));
    }
}
