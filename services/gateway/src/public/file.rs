//! A file that is served from memory, compressed where that makes it smaller.

use std::io::Write as _;

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::header::{
        self, AcceptEncoding, CacheControl, CacheDirective, ContentEncoding, ETag, Encoding, EntityTag,
        IfNoneMatch,
    },
    web::Bytes,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// Smaller files are not worth compressing.
const COMPRESS_FROM: usize = 1024;
/// Of brotli, 0 to 11: what is beyond costs ten times as long at each start, for a twentieth of the size.
const BROTLI_QUALITY: i32 = 9;
/// Of brotli, as an exponent of two: larger than any of the files.
const BROTLI_WINDOW: i32 = 19;

/// A file.
#[derive(Debug, Clone)]
pub(super) struct File {
    content_type: &'static str,
    policy: Option<String>,
    plain: Variant,
    brotli: Option<Variant>,
    gzip: Option<Variant>,
}

/// The file in one coding. Each has a tag of its own (RFC 9110 §8.8.3.3).
#[derive(Debug, Clone)]
struct Variant {
    body: Bytes,
    etag: EntityTag,
}

impl File {
    pub(super) fn new(name: &str, body: Vec<u8>) -> Self {
        let hash = URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..12]);
        let content_type = match name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "application/javascript; charset=utf-8",
            Some("json" | "map") => "application/json; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "application/octet-stream",
        };
        let variant = |coding: &str, compress: fn(&[u8]) -> Option<Vec<u8>>| {
            let compressed = compress(&body).filter(|compressed| compressed.len() < body.len())?;
            let etag = EntityTag::new_strong(format!("{hash}-{coding}"));
            (body.len() >= COMPRESS_FROM).then(|| Variant { body: compressed.into(), etag })
        };
        Self {
            content_type,
            policy: None,
            brotli: variant("br", brotli),
            gzip: variant("gzip", gzip),
            plain: Variant { etag: EntityTag::new_strong(hash), body: body.into() },
        }
    }

    /// The same, with a Content-Security-Policy.
    pub(super) fn with_policy(self, policy: &str) -> Self {
        Self { policy: Some(policy.to_owned()), ..self }
    }

    /// Answers with the file, or with 304 if the browser has it.
    pub(super) fn serve(&self, request: &HttpRequest) -> HttpResponse {
        let (variant, coding) = self.variant(request);
        let is_cached = match request.get_header::<IfNoneMatch>() {
            Some(IfNoneMatch::Any) => true,
            // A proxy that compresses makes the tag a weak one (RFC 9110 §13.1.2).
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&variant.etag)),
            None => false,
        };
        let mut response = if is_cached { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header(CacheControl(vec![CacheDirective::Public, CacheDirective::MaxAge(0)]))
            .insert_header(ETag(variant.etag.clone()))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
        if self.brotli.is_some() || self.gzip.is_some() {
            response.insert_header((header::VARY, "Accept-Encoding"));
        }
        if let Some(policy) = &self.policy {
            response.insert_header((header::CONTENT_SECURITY_POLICY, policy.as_str()));
        }
        if is_cached {
            return response.finish();
        }
        if let Some(coding) = coding {
            response.insert_header(coding);
        }
        response.insert_header((header::CONTENT_TYPE, self.content_type)).body(variant.body.clone())
    }

    /// The variant that the client likes best.
    fn variant(&self, request: &HttpRequest) -> (&Variant, Option<ContentEncoding>) {
        let plain = (&self.plain, None);
        // Without the header anything may be sent, but who leaves it out is a script that decodes nothing.
        let Some(accepted) = request.get_header::<AcceptEncoding>() else { return plain };
        let known = [Encoding::brotli(), Encoding::gzip(), Encoding::identity()];
        match accepted.negotiate(known.iter()) {
            Some(Encoding::Known(ContentEncoding::Brotli)) => {
                self.brotli.as_ref().map_or(plain, |variant| (variant, Some(ContentEncoding::Brotli)))
            }
            Some(Encoding::Known(ContentEncoding::Gzip)) => {
                self.gzip.as_ref().map_or(plain, |variant| (variant, Some(ContentEncoding::Gzip)))
            }
            _ => plain,
        }
    }
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

fn brotli(body: &[u8]) -> Option<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        lgwin: BROTLI_WINDOW,
        ..Default::default()
    };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut &*body, &mut compressed, &params).ok()?;
    Some(compressed)
}
