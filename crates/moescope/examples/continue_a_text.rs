//! Continues a text with the most probable token, again and again: whether a model that was opened here still speaks.
//!
//! Every token is a whole pass, since nothing is kept between passes; a microscope has no use for more.
//!
//! `cargo run --release --example continue_a_text MODEL [TEXT [COUNT]]`. The model needs a tokenizer: a folder with `tokenizer.json`,
//! or a `.gguf` file.

use std::io::Write as _;

use moescope::base::{HookPoint, Request, Site, Subject, Tokens};
use moescope::checkpoint::Checkpoint;
use moescope::context::Context;
use moescope::failure::Failure;
use moescope::interrupt::Interrupt;
use moescope::model::{Model, ModelSubject};

/// The most probable next token after `ids`, the lowest number of several.
pub(crate) fn next_token(subject: &mut ModelSubject, ids: &[u32]) -> Result<u32, Failure> {
    let tokens = Tokens::new(ids.to_vec(), 1, ids.len())?;
    let logits = HookPoint::global(Site::Logits);
    let seen = subject.run(&Request { record: &[logits], ..Request::of(&tokens) })?;
    let all = &seen.values[&logits]; // [batch, pos, vocabulary]
    let last = all.real().unwrap_or_default().chunks(all.columns()).next_back().unwrap_or_default();
    let most = (0..last.len()).rev().max_by(|a, b| last[*a].total_cmp(&last[*b]));
    Ok(most.unwrap_or_default() as u32)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let name =
        arguments.next().ok_or_else(|| Failure::input("the first argument is a model with a tokenizer"))?;
    let text = arguments.next().unwrap_or_else(|| "The capital of France is".into());
    let count: usize = arguments.next().map_or(Ok(24), |count| count.parse())?;
    let context = Context::new(0, false, false, Interrupt::default());
    let checkpoint = Checkpoint::find(&name, &context)?;
    let tokenizer = checkpoint.tokenizer()?;
    let mut subject = ModelSubject::new(Model::open(checkpoint.path())?);
    let mut ids = tokenizer.encode(&text)?;
    print!("{text}");
    for _ in 0..count {
        let next = next_token(&mut subject, &ids)?;
        if Some(next) == tokenizer.end() {
            break;
        }
        ids.push(next);
        print!("{}", tokenizer.decode(&[next]));
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
