"""Content Credentials: what signs, what is signed, and that the image and its own metadata stay."""

import datetime
import io
import json
from pathlib import Path

import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from dalle3_jax.pipeline.image_formats import SOURCE_TYPE, encode_image
from dalle3_jax.serving.credentials import CredentialSigner, load_signer

TEXTS = {"dalle3_jax": '{"seed": 1}', "parameters": "a panda\nSteps: 4"}


def certificate(name: str, issuer: str, key, issuer_key, *, is_authority: bool) -> bytes:
    """A certificate as C2PA wants it of signers, and of who vouches for them."""
    names = [
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, one), x509.NameAttribute(NameOID.COMMON_NAME, one)])
        for one in (name, issuer)
    ]
    now, days = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=2)
    usages = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usages += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    used = {"digital_signature"} | ({"key_cert_sign", "crl_sign"} if is_authority else set())
    builder = (
        x509.CertificateBuilder(*reversed(names), key.public_key(), x509.random_serial_number(), now - days, now + days)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.KeyUsage(**{usage: usage in used for usage in usages}), critical=True)
    )
    if not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def private_pem(key) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """chain.pem and key.pem, and other.pem, the key of somebody else."""
    folder = tmp_path_factory.mktemp("keys")
    authority, own, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    chain = certificate("ours", "authority", own, authority, is_authority=False)
    chain += certificate("authority", "authority", authority, authority, is_authority=True)
    for name, content in (("chain", chain), ("key", private_pem(own)), ("other", private_pem(other))):
        (folder / f"{name}.pem").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def signer(folder) -> CredentialSigner:
    return load_signer(str(folder / "chain.pem"), str(folder / "key.pem"))


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_signed_file_says_who_made_it_and_stays_the_same_image(signer, form):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    plain = encode_image(image, TEXTS, f".{form}")
    signed = signer(plain, f"image/{form}", SOURCE_TYPE)
    with Image.open(io.BytesIO(plain)) as before, Image.open(io.BytesIO(signed)) as after:
        assert before.tobytes() == after.tobytes()
        kept = ("dalle3_jax", "parameters", "exif")
        assert [after.info.get(name) for name in kept] == [before.info.get(name) for name in kept]
    told = json.loads(c2pa.Reader(f"image/{form}", io.BytesIO(signed)).json())
    manifest = told["manifests"][told["active_manifest"]]
    assert manifest["signature_info"]["common_name"] == "ours"
    [actions] = [one["data"]["actions"] for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")]
    assert [(action["action"], action["digitalSourceType"]) for action in actions] == [("c2pa.created", SOURCE_TYPE)]
    assert {problem["code"] for problem in told["validation_status"]} == {"signingCredential.untrusted"}
    assert len(signed) < len(plain) + 20_000


def test_a_file_that_was_changed_is_not_vouched_for(signer):
    signed = bytearray(signer(encode_image(Image.new("RGB", (64, 64)), TEXTS, ".png"), "image/png", SOURCE_TYPE))
    place = signed.rindex(b"IDAT") + 8
    signed[place] ^= 1
    told = json.loads(c2pa.Reader("image/png", io.BytesIO(bytes(signed))).json())
    assert "assertion.dataHash.mismatch" in {problem["code"] for problem in told["validation_status"]}


@pytest.mark.parametrize(
    ("chain", "key", "message"),
    [
        ("chain.pem", "other.pem", "is not of the key in"),
        ("key.pem", "key.pem", "must be PEM"),
        ("chain.pem", "chain.pem", "must be PEM"),
    ],
)
def test_keys_and_certificates_that_cannot_sign_are_told(folder, chain, key, message):
    with pytest.raises(ValueError, match=message):
        load_signer(str(folder / chain), str(folder / key))
