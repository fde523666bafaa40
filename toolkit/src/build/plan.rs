//! What a build still has to do, said before it begins: the first one takes minutes.

use std::time::Duration;

use super::Program;
use sluice_shell::output::{Output, in_words};

/// The work on one program (or on the source tree), measured on two processors of 2.5 GHz with empty caches. Seconds.
#[derive(Clone, Copy)]
struct Cost {
    /// Processor time that all processors share.
    shared: u64,
    /// What one processor does alone: unpacking, linking.
    alone: u64,
}

/// Download and composition of the source tree.
const SOURCE: Cost = Cost { shared: 20, alone: 40 };

/// What the Kubernetes programs have in common: the first one that is built pays for it.
const COMMON: u64 = 250;

impl Program {
    fn cost(self) -> Cost {
        let (shared, alone) = match self {
            Self::KubeApiserver => (350, 30),
            Self::KubeControllerManager => (130, 30),
            Self::KubeScheduler | Self::Kubelet => (60, 25),
            Self::Kubectl | Self::Kubeadm => (60, 20),
            Self::KubeProxy | Self::Agnhost => (60, 20),
            Self::E2eTest => (300, 60),
            Self::Ginkgo => (15, 5),
            Self::KubeLogRunner => (5, 5),
            Self::Pause => (1, 1),
            Self::SluiceShim => (250, 40),
            Self::Etcd | Self::Etcdctl | Self::Etcdutl => (120, 10),
            Self::Kine => (200, 60),
            Self::Promtool => (120, 20),
            Self::Jsonnet => (15, 5),
            Self::Actionlint => (10, 5),
            Self::Cosign => (400, 30),
            Self::ImageCopy => (60, 5),
            Self::KmsPlugin => (30, 5),
            Self::Coredns => (300, 30),
            Self::Helm => (300, 20),
            Self::Vcluster => (500, 40),
            Self::VclusterCli => (40, 20),
            Self::SampleApiserver => (200, 20),
            Self::Tidb => (650, 50),
        };
        Cost { shared, alone }
    }
}

/// The steps of a build that are not done yet.
pub(super) struct Plan {
    steps: Vec<(String, Cost)>,
}

impl Plan {
    /// Of a source tree, if one has to be composed (which version), and of programs.
    pub(super) fn new(source: Option<&str>, programs: &[Program]) -> Self {
        let mut steps = Vec::new();
        steps.extend(source.map(|version| (format!("download and unpack the source of Kubernetes {version}"), SOURCE)));
        let mut common = COMMON;
        for program in programs {
            let mut cost = program.cost();
            if program.is_kubernetes() {
                cost.shared += std::mem::take(&mut common);
            }
            steps.push((format!("compile {}", program.name()), cost));
        }
        Self { steps }
    }

    /// Says it, if there is something to do.
    pub(super) fn announce(&self, out: &Output) {
        if !self.steps.is_empty() {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            out.note(self.text(u64::try_from(processors).unwrap_or(1)));
        }
    }

    fn text(&self, processors: u64) -> String {
        // Beyond that the dependencies between packages decide.
        let time = |cost: &Cost| cost.alone + cost.shared / processors.clamp(1, 16);
        let total = self.steps.iter().map(|(_, cost)| time(cost)).sum();
        let plural = if processors == 1 { "" } else { "s" };
        let mut text = format!(
            "to do first, {} on {processors} quiet processor{plural} (less if the compilers' caches hold parts of it):",
            about(total)
        );
        for (what, cost) in &self.steps {
            text.push_str(&format!("\n  {what}: {}", about(time(cost))));
        }
        text.push_str("\nan interrupted run is taken up by the next one: what is finished stays");
        text
    }
}

/// In whole minutes: an estimate is no more exact than that.
fn about(seconds: u64) -> String {
    if seconds < 30 {
        "seconds".into()
    } else {
        format!("about {}", in_words(Duration::from_mins(seconds.div_ceil(60))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_build_says_what_it_does_and_how_long() {
        let programs = [Program::KubeApiserver, Program::KubeControllerManager, Program::Kubectl, Program::SluiceShim];
        let text = Plan::new(Some("v1.37.2"), &programs).text(2);
        insta::assert_snapshot!(text);
        let alone = Plan::new(None, &[Program::KubeLogRunner, Program::Kubectl]);
        insta::assert_snapshot!(alone.text(1));
    }

    #[test]
    fn more_processors_take_less_time_to_a_point() {
        let total = |processors| {
            let text = Plan::new(None, &[Program::KubeApiserver]).text(processors);
            text.lines().nth(1).unwrap().to_owned()
        };
        assert_ne!(total(1), total(4));
        assert_eq!(total(16), total(1000));
        assert_eq!(total(0), total(1));
    }
}
