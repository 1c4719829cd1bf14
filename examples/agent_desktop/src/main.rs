//! How a backend keeps its agents, as a program of its own: see the library.

fn main() -> anyhow::Result<()> {
    genesys_agent_desktop::main()
}
