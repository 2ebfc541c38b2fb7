//! `curves PROGRAM FOLDER`: how speed scales, measured with `PROGRAM bench`, as a Markdown table and a picture.
//!
//! Everything else on the machine should be at rest; runs follow one another, so what disturbs one panel may spare another.

mod picture;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One setting of the swept size.
pub(crate) struct Point {
    /// The size, on the horizontal axis.
    pub(crate) at: usize,
    pub(crate) train: Rates,
    pub(crate) forward: Rates,
}

/// What one run of the bench tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Tokens per core-second, median.
    pub(crate) tokens: f64,
    /// Tokens per second, median.
    pub(crate) wall: f64,
    /// Share of the rate of the model's largest product on one core of this machine.
    pub(crate) fraction: f64,
}

/// A swept size.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) axis: &'static str,
    /// Whether rates are those of all threads together.
    pub(crate) by_wall: bool,
    pub(crate) points: Vec<Point>,
}

/// A size, its settings, and the arguments of the bench for one of them.
struct Sweep {
    title: &'static str,
    axis: &'static str,
    by_wall: bool,
    settings: &'static [usize],
    arguments: fn(usize) -> String,
}

const SWEEPS: [Sweep; 5] = [
    Sweep {
        title: "Width (dense)",
        axis: "d_model; d_ff = 4 d_model",
        by_wall: false,
        settings: &[64, 128, 256, 512, 1024],
        arguments: |d| format!("--d-model {d} --d-ff {} --heads {}", 4 * d, d / 32),
    },
    Sweep {
        title: "Granularity (MoE, 8 × active width)",
        axis: "G; 8 G experts of width 1024 / G, G per token",
        by_wall: false,
        settings: &[1, 2, 4, 8, 16, 32, 64],
        arguments: |g| format!("--ffn moe --granularity {g}"),
    },
    Sweep {
        title: "Experts (MoE, granularity 1)",
        axis: "experts of width 1024, one per token",
        by_wall: false,
        settings: &[1, 2, 4, 8, 16, 32, 64, 128],
        arguments: |e| format!("--ffn moe --expansion {e}"),
    },
    Sweep {
        title: "Length of a sequence (dense)",
        axis: "positions; 2048 tokens a step",
        by_wall: false,
        settings: &[64, 128, 256, 512, 1024, 2048],
        arguments: |seq| format!("--seq {seq} --batch {}", 2048 / seq),
    },
    Sweep {
        title: "Threads (MoE, granularity 8)",
        axis: "threads",
        by_wall: true,
        settings: &[1, 2],
        arguments: |threads| format!("--ffn moe --granularity 8 --threads {threads}"),
    },
];

/// Runs the subcommand.
///
/// # Errors
/// If the program cannot be run, its answer is not understood, or a file cannot be written.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [program, folder] = arguments else { bail!("wanted: curves PROGRAM FOLDER") };
    let measure = |sweep: &Sweep| -> Result<Panel> {
        let points = sweep.settings.iter().map(|at| point(Path::new(program), sweep, *at));
        let Sweep { title, axis, by_wall, .. } = *sweep;
        Ok(Panel { title, axis, by_wall, points: points.collect::<Result<_>>()? })
    };
    let panels = SWEEPS.iter().map(measure).collect::<Result<Vec<_>>>()?;
    std::fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
    for (name, text) in [("curves.svg", picture::svg(&panels)), ("curves.md", table(&panels))] {
        let path = Path::new(folder).join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Measures one setting, training and forward.
fn point(program: &Path, sweep: &Sweep, at: usize) -> Result<Point> {
    eprintln!("{}: {at}", sweep.title);
    let measured = |what| bench(program, what, &(sweep.arguments)(at));
    Ok(Point { at, train: measured("train")?, forward: measured("forward")? })
}

/// One run; on one thread unless the arguments say otherwise.
fn bench(program: &Path, what: &str, arguments: &str) -> Result<Rates> {
    let threads = if arguments.contains("--threads") { "" } else { "--threads 1" };
    let mut command = Command::new(program);
    command.args(["bench", what, "--json", "--reps", "5"]);
    let output = command.args(arguments.split_whitespace()).args(threads.split_whitespace()).output();
    let output = output.with_context(|| format!("running {}", program.display()))?;
    if !output.status.success() {
        bail!("bench {what} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
    rates(&output.stdout).with_context(|| format!("bench {what} {arguments}"))
}

/// The rates in the JSON of one run.
fn rates(json: &[u8]) -> Result<Rates> {
    let value: serde_json::Value = serde_json::from_slice(json)?;
    let number = |key: &str| value[key].as_f64().with_context(|| format!("no number `{key}`"));
    Ok(Rates {
        tokens: number("tokens_per_core_second_median")?,
        wall: number("tokens_per_second_median")?,
        fraction: number("gemm_fraction")?,
    })
}

/// All panels as one Markdown table.
fn table(panels: &[Panel]) -> String {
    let mut text = String::from(
        "| sweep | setting | train, tokens per core-second | fraction | forward, tokens per core-second | fraction |\n\
         |---|---|---|---|---|---|\n",
    );
    for panel in panels {
        for point in &panel.points {
            let cell = |rates: Rates| match panel.by_wall {
                true => format!("{:.0} ({:.0} per second)", rates.tokens, rates.wall),
                false => format!("{:.0}", rates.tokens),
            };
            text += &format!(
                "| {} | {} | {} | {:.0} % | {} | {:.0} % |\n",
                panel.title,
                point.at,
                cell(point.train),
                100.0 * point.train.fraction,
                cell(point.forward),
                100.0 * point.forward.fraction
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_and_a_missing_number_named() {
        let json = br#"{"tokens_per_core_second_median": 3.0, "tokens_per_second_median": 6.0, "gemm_fraction": 0.5}"#;
        let found = rates(json).unwrap();
        assert_eq!((found.tokens, found.wall, found.fraction), (3.0, 6.0, 0.5));
        assert!(rates(b"{}").unwrap_err().to_string().contains("tokens_per_core_second_median"));
    }

    #[test]
    fn every_setting_is_a_row_and_a_mark() {
        let rates = Rates { tokens: 2000.0, wall: 3900.0, fraction: 0.8 };
        let points = [1, 2].map(|at| Point { at, train: rates, forward: rates }).into();
        let panels = [Panel { title: "Threads", axis: "threads", by_wall: true, points }];
        assert!(table(&panels).contains("| Threads | 2 | 2000 (3900 per second) | 80 % |"));
        assert_eq!(picture::svg(&panels).matches("<title>").count(), 4);
    }
}
