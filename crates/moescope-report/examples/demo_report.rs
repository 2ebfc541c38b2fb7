//! Writes the demo report, all figures and some hostile data, to the path given as the only argument.

#[path = "../tests/demo/mod.rs"]
mod demo;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("give the path of the report to write")?;
    moescope_report::write_html(&demo::report(), path.as_ref())?;
    Ok(())
}
