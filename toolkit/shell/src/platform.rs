//! What programs and images are built for.

use clap::{Args, ValueEnum};
use serde::Serialize;
use std::env::consts::ARCH;
use std::fmt;

use crate::error::{Explain, Result};

/// A platform that programs and images are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
pub enum Platform {
    /// x86-64.
    #[value(name = "linux/amd64")]
    #[serde(rename = "linux/amd64")]
    Amd64,
    /// 64-bit ARM.
    #[value(name = "linux/arm64")]
    #[serde(rename = "linux/arm64")]
    Arm64,
}

/// The flag of verbs that build.
#[derive(Args, Clone, Debug, Default)]
pub struct Platforms {
    /// Build for these: linux/amd64, linux/arm64 [default: this machine's platform]
    #[arg(long = "platform", value_enum, value_name = "PLATFORM", value_delimiter = ',', hide_possible_values = true)]
    given: Vec<Platform>,
}

impl Platforms {
    /// Each platform once, in one order: this machine's if none was given.
    ///
    /// # Errors
    /// When none was given, and this machine is of no platform.
    pub fn chosen(&self) -> Result<Vec<Platform>> {
        if self.given.is_empty() {
            return Ok(vec![Platform::host()?]);
        }
        Ok(Platform::ALL.into_iter().filter(|platform| self.given.contains(platform)).collect())
    }
}

/// This machine is of no platform that programs are built for.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be built on this machine's processor ({ARCH})")]
struct UnknownProcessor;

impl Explain for UnknownProcessor {
    fn hint(&self) -> Option<String> {
        Some("use a machine with x86_64 or aarch64".to_owned())
    }
}

impl Platform {
    /// Every platform.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// This machine's.
    ///
    /// # Errors
    /// When it is none of those.
    pub fn host() -> Result<Self> {
        Ok(Self::ALL.into_iter().find(|platform| platform.is_host()).ok_or(UnknownProcessor)?)
    }

    /// Whether its programs run on this machine.
    pub fn is_host(self) -> bool {
        self.cpu() == ARCH
    }

    /// The processor, as Go, Debian and OCI documents name it.
    pub fn arch(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The processor, as Rust and GNU name it.
    pub fn cpu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Rust's target.
    pub fn triple(self) -> String {
        format!("{}-unknown-linux-gnu", self.cpu())
    }

    /// A program of GNU's toolchain that makes programs for this platform: gcc, objcopy.
    pub fn gnu(self, tool: &str) -> String {
        if self.is_host() { tool.to_owned() } else { format!("{}-linux-gnu-{tool}", self.cpu()) }
    }

    /// The end of names of files and folders, so that those of another platform lie beside this machine's.
    pub fn suffix(self) -> String {
        if self.is_host() { String::new() } else { format!("-linux-{}", self.arch()) }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.arch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_reports_and_messages_name_a_platform_alike() {
        for platform in Platform::ALL {
            let shown = platform.to_string();
            assert_eq!(Platform::from_str(&shown, false), Ok(platform));
            assert_eq!(serde_json::to_string(&platform).unwrap(), format!("{shown:?}"));
        }
    }
}
