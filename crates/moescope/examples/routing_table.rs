//! Prints a text as a table: a line for each token, a column for each routed layer, and in it the experts that the token chose.
//!
//! `cargo run --example routing_table [MODEL [TEXT]]`. A folder without `tokenizer.json` reads the bytes of the text as token ids.

use std::error::Error;
use std::path::{Path, PathBuf};

use moescope::base::{HookPoint, Request, Site, Subject, Tokens};
use moescope::corpus::Tokenizer;
use moescope::model::{Model, ModelSubject};

/// One token and its experts in each routed layer, the largest weight first.
pub(crate) struct Line {
    pub(crate) token: String,
    pub(crate) experts: Vec<Vec<i64>>,
}

/// The routes of a text.
pub(crate) fn table(folder: &Path, text: &str) -> Result<Vec<Line>, Box<dyn Error>> {
    let (ids, words) = encode(folder, text)?;
    let mut subject = ModelSubject::new(Model::open(folder)?);
    let tokens = Tokens::new(ids, 1, words.len())?;
    let routed = subject.shape().routed_layers().into_iter();
    let record: Vec<HookPoint> = routed.map(|layer| HookPoint::block(Site::RouterIndices, layer)).collect();
    let seen = subject.run(&Request { record: &record, ..Request::of(&tokens) })?;
    let experts = |place: usize, point: &HookPoint| {
        let chosen = &seen.values[point]; // [batch, pos, slot]
        chosen.integer().unwrap_or_default().chunks(chosen.columns()).nth(place).map(<[i64]>::to_vec)
    };
    let line = |(place, token): (usize, String)| Line {
        token,
        experts: record.iter().filter_map(|point| experts(place, point)).collect(),
    };
    Ok(words.into_iter().enumerate().map(line).collect())
}

/// Token ids, and how each is written.
fn encode(folder: &Path, text: &str) -> Result<(Vec<u32>, Vec<String>), Box<dyn Error>> {
    let file = folder.join("tokenizer.json");
    if !file.exists() {
        let ids = text.bytes().map(u32::from).collect();
        return Ok((ids, text.bytes().map(|byte| char::from(byte).to_string()).collect()));
    }
    let tokenizer = Tokenizer::from_file(&file)?;
    let ids = tokenizer.encode(text)?;
    let words = ids.iter().map(|id| tokenizer.text(*id).to_owned()).collect();
    Ok((ids, words))
}

fn main() -> Result<(), Box<dyn Error>> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/qwen3_moe");
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from(tiny), PathBuf::from);
    let text = arguments.next().unwrap_or_else(|| "to route or not to route".into());
    for Line { token, experts } in table(&folder, &text)? {
        let columns: Vec<String> = experts.iter().map(|layer| format!("{layer:2?}")).collect();
        println!("{token:>12?}  {}", columns.join("  "));
    }
    Ok(())
}
