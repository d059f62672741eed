//! The status page at `/admin/`: files that stand alone. They say nothing of the cluster, and need no token; the page asks for one, and
//! asks the API.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, ServiceConfig},
};
use rust_embed::Embed;

/// The files of `status/`.
#[derive(Embed)]
#[folder = "status/"]
struct Files;

/// It loads its own files, and asks the node that it comes from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FILES: [(&str, &str, &str); 3] = [
    ("/admin/", "index.html", "text/html; charset=utf-8"),
    ("/admin/status.css", "status.css", "text/css; charset=utf-8"),
    ("/admin/status.js", "status.js", "text/javascript; charset=utf-8"),
];

pub(super) fn routes(routes: &mut ServiceConfig) {
    for (path, name, kind) in FILES {
        let serve = async move || serve(name, kind);
        routes.service(super::only_get(path, web::get().to(serve)));
    }
    routes.service(super::only_get("/admin", web::get().to(add_slash)));
}

fn serve(name: &str, kind: &str) -> HttpResponse {
    let Some(file) = Files::get(name) else { return HttpResponse::NotFound().finish() };
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(file.data)
}

async fn add_slash(_: HttpRequest) -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/admin/")).finish()
}
