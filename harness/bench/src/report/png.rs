//! Drawings as PNG, for places that show no SVG: the same drawing, rasterised, with a font that this program carries.

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{self, fontdb};
use std::sync::{Arc, LazyLock};

/// Pixels per unit of the drawing: sharp on a dense screen and in print.
pub const SCALE: f32 = 2.0;

/// Why a drawing has no PNG.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// Not SVG, which is ours to mend: the drawings are this program's own.
    #[error("the drawing is no svg: {0}")]
    Svg(#[from] usvg::Error),
    /// No memory for the pixels.
    #[error("no image of {width} by {height} pixels can be made")]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The encoder.
    #[error("the image cannot be encoded: {0}")]
    Encode(String),
}

/// The carried font, under every family that a drawing may ask for.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts
        .faces()
        .find_map(|face| Some(face.families.first()?.0.clone()));
    if let Some(family) = family {
        fonts.set_sans_serif_family(&family);
        fonts.set_serif_family(&family);
        fonts.set_monospace_family(&family);
    }
    Arc::new(fonts)
});

/// Rasterises a drawing on white, [`SCALE`] pixels per unit.
///
/// # Errors
/// [`PngError`].
pub fn png(svg: &str) -> Result<Vec<u8>, PngError> {
    let options = usvg::Options {
        fontdb: Arc::clone(&FONTS),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options)?;
    let pixels = |length: f32| (length * SCALE).ceil() as u32;
    let (width, height) = (pixels(tree.size().width()), pixels(tree.size().height()));
    let mut image = Pixmap::new(width, height).ok_or(PngError::Size { width, height })?;
    image.fill(Color::WHITE);
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut image.as_mut(),
    );
    image
        .encode_png()
        .map_err(|error| PngError::Encode(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels of the image that are not white, in the part left of `x` and above `y`.
    fn ink(image: &Pixmap, x: u32, y: u32) -> usize {
        let inside = |i: usize| (i as u32 % image.width()) < x && (i as u32 / image.width()) < y;
        let pixels = image.pixels().iter().enumerate();
        pixels
            .filter(|(i, pixel)| inside(*i) && (pixel.red(), pixel.green()) != (255, 255))
            .count()
    }

    #[test]
    fn shapes_and_letters_are_drawn_in_double_size() {
        let svg = r##"<svg width="100" height="40" viewBox="0 0 100 40" xmlns="http://www.w3.org/2000/svg">
            <text x="2" y="15" font-family="sans-serif" font-size="12" fill="#000000">p50 us</text>
            <rect x="60" y="20" width="10" height="10" fill="#0072B2"/></svg>"##;
        let image = Pixmap::decode_png(&png(svg).unwrap()).unwrap();
        assert_eq!((image.width(), image.height()), (200, 80));
        assert!(ink(&image, 100, 36) > 100, "no letters");
        assert_eq!(ink(&image, 200, 80) - ink(&image, 100, 36), 400);
        assert!(matches!(png("<p>"), Err(PngError::Svg(_))));
    }
}
