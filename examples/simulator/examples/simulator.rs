//! The simulator by the name it has in README: see the library.

fn main() -> anyhow::Result<()> {
    genesys_simulator::main()
}
