//! The simulator as a program of its own: see the library.

fn main() -> std::process::ExitCode {
    genesys_simulator::main()
}
