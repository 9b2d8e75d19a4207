//! Processes of containers, which are processes of this machine.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use rustix::process::{Pid, Signal, kill_process};

/// The processes of a container of a pod; they go on when it is dropped.
pub struct Container {
    id: String,
    is_frozen: bool,
}

impl Container {
    /// The running container of this name.
    pub fn of(pod: &Pod, name: &str) -> Self {
        let found = all(pod).find(|status| status.name == name).unwrap_or_else(|| panic!("no {name}"));
        Self::from_status(found)
    }

    /// All that run in a pod.
    pub fn all_of(pod: &Pod) -> Vec<Self> {
        all(pod).filter(|status| status.container_id.is_some()).map(Self::from_status).collect()
    }

    fn from_status(status: &ContainerStatus) -> Self {
        let id = status.container_id.as_deref().expect("it runs");
        let (_, id) = id.split_once("://").expect("RUNTIME://ID");
        Self { id: id.to_owned(), is_frozen: false }
    }

    /// Stops them where they are, as a machine that hangs does, or lets them go on.
    pub fn freeze(&mut self, is_frozen: bool) {
        self.is_frozen = is_frozen;
        assert!(self.signal(if is_frozen { Signal::STOP } else { Signal::CONT }) > 0, "none runs");
    }

    /// Kills them.
    pub fn kill(&self) {
        assert!(self.signal(Signal::KILL) > 0, "none runs");
    }

    /// Signals all, and returns how many there are.
    fn signal(&self, signal: Signal) -> usize {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        numbers
            .filter(|number| {
                let groups = fs::read_to_string(Path::new("/proc").join(number.to_string()).join("cgroup"));
                groups.is_ok_and(|groups| groups.contains(&self.id))
            })
            .filter(|number| Pid::from_raw(*number).is_some_and(|pid| kill_process(pid, signal).is_ok()))
            .count()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.is_frozen {
            self.signal(Signal::CONT);
        }
    }
}

fn all(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref().expect("a status");
    status.container_statuses.iter().chain(&status.init_container_statuses).flatten()
}
