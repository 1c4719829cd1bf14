//! The service as its own process.

use std::process::Stdio;

use genesys_scripts::simulator::Simulator;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_genesys-agent-desktop");

pub(crate) struct Serving {
    pub(crate) url: String,
    process: Child,
    told: Lines<BufReader<ChildStdout>>,
}

impl Serving {
    /// With a simulator of its own, or before this one; and where it keeps its sessions.
    pub(crate) async fn start(at: &str, before: Option<&Simulator>, store: &[&str]) -> Self {
        Self::start_with(at, before, store, &[]).await
    }

    /// With other settings than usual.
    pub(crate) async fn start_with(
        at: &str,
        before: Option<&Simulator>,
        store: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["--serve", at]).args(store).env("DESKTOP_KEY", "5a".repeat(32));
        command.env_remove("GENESYSCLOUD_REGION").env_remove("GENESYSCLOUD_GATEWAY_HOST");
        if let Some(simulator) = before {
            command
                .env("GENESYSCLOUD_GATEWAY_HOST", "127.0.0.1")
                .env("GENESYSCLOUD_GATEWAY_PORT", simulator.address().unwrap().port().to_string())
                .env("GENESYSCLOUD_GATEWAY_PROTOCOL", "http")
                .env("GENESYSCLOUD_OAUTHCLIENT_ID", "desktop")
                .env("GENESYSCLOUD_OAUTHCLIENT_SECRET", "simulator");
        }
        command.envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut told = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = loop {
            let line = told.next_line().await.unwrap().unwrap();
            if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
                break url.trim_end_matches('/').to_owned();
            }
        };
        Self { url, process, told }
    }

    /// As the system ends what takes too much memory.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Told to stop, as containers are. What it says at the end.
    #[cfg(unix)]
    pub(crate) async fn stop(mut self) -> String {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let left = self.told.next_line().await.unwrap().unwrap();
        assert!(self.process.wait().await.unwrap().success(), "{left}");
        left
    }
}
