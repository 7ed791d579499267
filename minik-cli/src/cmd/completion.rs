//! `minik completion`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a shell's completion script, to be sourced.
#[derive(Debug, Args)]
pub struct Completion {
    /// bash, zsh or fish
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

impl Completion {
    pub fn run(self) -> anyhow::Result<()> {
        let shell = match self.shell.as_str() {
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            _ => Shell::Bash,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut super::Minik::command(), "minik", &mut script);
        std::io::Write::write_all(&mut std::io::stdout(), &script)?;
        Ok(())
    }
}
