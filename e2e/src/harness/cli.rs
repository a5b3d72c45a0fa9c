//! What the command line answered.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// What a program of ours answered.
#[derive(Debug, Clone)]
pub struct CliOutput {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CliOutput {
    /// The same, once it ended with this code.
    pub fn ended_with(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "{} ended with {}, not {code}:\n{}{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{} printed no JSON:\n{}", self.command, self.stdout))
    }

    /// Whether a person reads all of these.
    pub fn tells(&self, words: &[&str]) -> Result<()> {
        for word in words {
            ensure!(self.stderr.contains(word), "{} does not say `{word}`:\n{}", self.command, self.stderr);
        }
        Ok(())
    }
}
