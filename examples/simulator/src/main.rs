//! The simulator as a program of its own: see the library.

fn main() -> anyhow::Result<()> {
    genesys_simulator::main()
}
