"""What every Runtime promises of images (ports.Runtime): what is here, what comes, and to whom."""

from __future__ import annotations

from typing import Protocol

import pytest

from contract.runtime import RuntimeSite
from skerry.errors import ImagePullFailed
from skerry.ports import AuthConfig


class ImageSite(RuntimeSite, Protocol):
    missing_image: str  # neither present nor to be had

    async def private(self) -> tuple[str, AuthConfig]:
        """An image that is not present, and who alone may pull it. Skips where no registry is at hand."""


class ImagesContract:
    async def test_images(self, site: ImageSite) -> None:
        runtime = site.runtime()
        assert await runtime.image_present(site.image)
        assert not await runtime.image_present(site.missing_image)
        with pytest.raises(ImagePullFailed):
            await runtime.pull_image(site.missing_image)

    async def test_a_private_image_comes_to_who_may_have_it_and_to_nobody_else(self, site: ImageSite) -> None:
        runtime = site.runtime()
        image, auth = await site.private()
        for wrong in (None, AuthConfig(auth.username, "guessed"), AuthConfig("somebody", auth.password)):
            with pytest.raises(ImagePullFailed):
                await runtime.pull_image(image, wrong)
        assert not await runtime.image_present(image)
        await runtime.pull_image(image, auth)
        assert await runtime.image_present(image)
