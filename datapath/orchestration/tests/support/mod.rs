//! A small image made by hand: the scanner's tests do not depend on the configuration compiler.

use kmesh_api::Image;
use kmesh_api::automaton::{Cell, Node};
use kmesh_api::limits::CELLS_MAX;
use kmesh_api::route::name;

/// A header that the image asks about, each line a value of its own.
pub(crate) const USER: u32 = name::CONFIGURED;
/// A header that the image asks about, several lines of which are one value.
pub(crate) const AGENT: u32 = name::CONFIGURED + 1;

/// Texts with their ids.
pub(crate) type Ids<'a> = &'a [(&'a [u8], u32)];

/// An image with the built-in names, [`USER`] (`end-user`: `jason` 1, empty 2) and [`AGENT`] (`user-agent`: `a` 1, `a,b` 2).
pub(crate) fn image() -> Box<Image> {
    // SAFETY: an image consists of integers, and all bytes zero is a value of each.
    let mut image = unsafe { Box::<Image>::new_zeroed().assume_init() };
    let mut next = 1;
    let mut names = name::BUILT_IN.to_vec();
    names.extend([(&b"end-user"[..], USER), (b"user-agent", AGENT)]);
    image.names_root = automaton(&mut image, &mut next, &names);
    let keep_alive = [
        (&b"keep-alive"[..], name::VALUE_KEEP_ALIVE),
        (b"close", name::VALUE_CLOSE),
    ];
    let values: [(u32, Ids<'_>); 4] = [
        (
            name::TRANSFER_ENCODING,
            &[(b"chunked", name::VALUE_CHUNKED)],
        ),
        (name::CONNECTION, &keep_alive),
        (USER, &[(b"jason", 1), (b"", 2)]),
        (AGENT, &[(b"a", 1), (b"a,b", 2)]),
    ];
    for (name, values) in values {
        image.names[name as usize].values = automaton(&mut image, &mut next, values);
    }
    image.names[AGENT as usize].joined = 1;
    image
}

/// Adds an automaton the simplest way: every node has 256 cells of its own.
pub(crate) fn automaton(image: &mut Image, next: &mut u32, texts: Ids<'_>) -> u32 {
    let root = vacant(image, next);
    for (text, id) in texts {
        let mut at = root;
        for byte in *text {
            let cell = image.nodes[at as usize].base as usize + usize::from(*byte);
            if image.cells[cell].owner == 0 {
                let new = vacant(image, next);
                image.cells[cell] = Cell {
                    owner: at,
                    next: new,
                };
            }
            at = image.cells[cell].next;
        }
        image.nodes[at as usize].end = *id;
    }
    root
}

fn vacant(image: &mut Image, next: &mut u32) -> u32 {
    let number = *next;
    *next += 1;
    assert!(
        (number as usize + 1) * 256 <= CELLS_MAX,
        "the image made by hand is full"
    );
    image.nodes[number as usize] = Node {
        base: number * 256,
        ..Node::default()
    };
    number
}
