"""GroupsHDU: random groups, the arrays with parameters of radio interferometry (FITS 4.0, section 6)."""

from __future__ import annotations

import math

import torch

from torchfits._direct import Conversion, read_section
from torchfits._tensors import CODES, address, allocate, threads
from torchfits.errors import FitsError
from torchfits.image import ImageHDU
from torchfits.layout import Parameter, group_parameters


class GroupsHDU(ImageHDU):
    """Random groups: `read` gives the arrays, (GCOUNT, ...), `read_parameters` what belongs to each group."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, PTYPEn, each once; 'PARn' where there is none."""
        return tuple(dict.fromkeys(parameter.name for parameter in self._parameters()))

    def _parameters(self) -> list[Parameter]:
        try:
            return group_parameters(self._hdu)
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise

    def read_parameters(self) -> dict[str, torch.Tensor]:
        """Read the parameters of every group.

        Returns:
            Name to float64 tensor (GCOUNT,), scaled by PSCALn and PZEROn. Parameters that share a name
            are parts of one number, such as a date and its fraction: they are summed (section 6.3).

        Raises:
            FitsFormatError: The data are cut short, or a scaling keyword is no number.
            FitsIOError: The file changed since it was opened, or the system refuses.

        Example:
            >>> torchfits.open('groups.fits')[0].read_parameters()['DATE']
            tensor([2451545.2500, 2451546.2500], dtype=torch.float64)
        """
        try:
            file, image, hdu = self._parent._opened(), self._image(), self._hdu
            self._check_bytes()
            groups = image.shape[0]
            numbers = image.parameters + math.prod(image.shape[1:])
            values: dict[str, torch.Tensor] = {}
            for i, parameter in enumerate(self._parameters()):
                tensor = allocate((groups,), torch.float64)
                if groups:
                    conversion = Conversion(
                        image.bitpix, parameter.scale, parameter.zero, None, CODES[torch.float64]
                    )
                    read_section(
                        file.where(hdu),
                        conversion,
                        hdu.data_start,
                        (groups, numbers),
                        0,
                        [range(groups), range(i, i + 1)],
                        *address(tensor),
                        threads(),
                        self._parent._mmap,
                        False,
                    )
                known = values.get(parameter.name)
                values[parameter.name] = tensor if known is None else known.add_(tensor)
            return values
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise
