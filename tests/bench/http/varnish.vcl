# Varnish as it comes, but for a field that says whether an answer was a hit.
vcl 4.1;
backend origin { .host = "127.0.0.1"; .port = "ORIGIN"; }
sub vcl_deliver {
  if (obj.hits > 0) { set resp.http.X-Cache = "HIT"; } else { set resp.http.X-Cache = "MISS"; }
}
