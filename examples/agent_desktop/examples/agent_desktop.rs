//! How a backend keeps its agents: see the library.

fn main() -> anyhow::Result<()> {
    genesys_agent_desktop::main()
}
