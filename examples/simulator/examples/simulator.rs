//! The simulator by the name it has in README: see the library.

fn main() -> std::process::ExitCode {
    genesys_simulator::main()
}
