"""Content Credentials (C2PA): what an image says of itself, signed by a key that others can check."""

import io
import threading
from pathlib import Path
from typing import Any

from PIL import Image

from dalle3_jax.pipeline.image_formats import SOURCE_TYPE, encode_png
from dalle3_jax.pipeline.png import software_version

__all__ = ["CredentialSigner", "load_signer"]

ALGORITHMS = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}
"""The signature algorithms of C2PA by the curve of a key."""
SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"ocsp_fetch": False, "remote_manifest_fetch": False},
}
"""No thumbnail, which would be larger than the image, and nothing is fetched."""


class CredentialSigner:
    """Signs the files of images; may be called from several threads."""

    def __init__(self, certificates: bytes, key: bytes, algorithm: bytes):
        import c2pa

        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, certificates, key, None))
        self._context = c2pa.Context(c2pa.Settings.from_dict(SETTINGS), signer)
        self._lock = threading.Lock()

    def __call__(self, content: bytes, media_type: str, source_type: str) -> bytes:
        """The file of an image with a signed manifest, which says that a model made it; its pixels stay."""
        import c2pa

        action = {"action": "c2pa.created", "digitalSourceType": source_type}
        manifest: dict[str, Any] = {
            "claim_generator_info": [{"name": software_version()}],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
        }
        signed = io.BytesIO()
        with self._lock, c2pa.Builder(manifest, self._context) as builder:
            builder.sign(media_type, io.BytesIO(content), signed)
        return signed.getvalue()


def load_signer(certificates_path: str, key_path: str) -> CredentialSigner:
    """The signer with a chain of certificates, the signer's own first, and its private key, both PEM.

    Raises ValueError for files that are none, a key that is another's, and certificates that C2PA does not take.
    """
    import c2pa
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificates, key = Path(certificates_path).read_bytes(), Path(key_path).read_bytes()
    try:
        private: Any = load_pem_private_key(key, None)
        public = x509.load_pem_x509_certificates(certificates)[0].public_key()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{certificates_path} and {key_path} must be PEM, the key without a password: {error}"
        ) from None
    if private.public_key() != public:
        raise ValueError(f"the first certificate of {certificates_path} is not of the key in {key_path}")
    try:
        signer = CredentialSigner(certificates, key, signature_algorithm(private))
        signer(encode_png(Image.new("RGB", (8, 8))), "image/png", SOURCE_TYPE)
    except c2pa.C2paError as error:
        raise ValueError(f"{certificates_path} cannot sign: {error}") from None
    return signer


def signature_algorithm(key: Any) -> bytes:
    """The algorithm of a private key, as C2PA names it; ValueError for a key of another kind."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in ALGORITHMS:
        return ALGORITHMS[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return b"ps256"
    raise ValueError(f"a key of {type(key).__name__} cannot sign: use one of P-256, P-384, P-521, Ed25519 or RSA")
