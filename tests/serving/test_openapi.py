"""The description of the API names every route, and every setting."""

from dalle3_jax.pipeline.request import SETTINGS
from dalle3_jax.serving.schemas import OWN


def test_every_route_and_setting_is_described(client):
    told = client.get("/openapi.json").json()
    described = {(path, method.upper()) for path, methods in told["paths"].items() for method in methods}
    routes = {(route.path.replace(":path", ""), method) for route in client.app.routes for method in route.methods}
    assert described == {(path, method) for path, method in routes if method != "HEAD"}
    for path, kind in (("generations", "application/json"), ("edits", "multipart/form-data")):
        body = told["paths"][f"/v1/images/{path}"]["post"]["requestBody"]["content"][kind]["schema"]
        assert {*SETTINGS} - {*OWN} <= body["properties"].keys()
        assert ("prompt" in body["required"]) == (path == "generations")
    assert told["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"].keys() == {"multipart/form-data"}


def test_every_route_says_what_it_does(client):
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods.values():
            assert method["summary"], path
