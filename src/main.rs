//! Hands over to the command line.
fn main() -> std::process::ExitCode {
    samsara_etl::cli::main()
}
