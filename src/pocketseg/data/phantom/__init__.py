"""Synthetic B-mode ultrasound of soft tissue with lesion masks: data that anyone may have, at any amount.

A patient is drawn once, in millimeters: layers, lesion, look-alikes. Each view moves the probe a little and
draws fresh speckle. From there `phantom_case` follows the sound, one function a step:

- tissue layers: fat is dark, gland bright, muscle striped, with wavy fasciae between (Stavros 2004);
- lesions: outline, margin, echo pattern and what lies behind go together, as in BI-RADS (Mendelson 2013);
- specular faces: a smooth border reflects coherently, and most where the beam meets it squarely (Szabo 2014);
- speckle: scatterers too small to resolve add up to a complex Gaussian, so the envelope is Rayleigh, with
  mean / standard deviation = sqrt(pi / (4 - pi)) = 1.91 (Burckhardt 1978; Wagner et al. 1983);
- point spread: separable. Along the beam a pulse, carrier x Gaussian, of which demodulation leaves the
  Gaussian; across it one that widens off the focus, s^2 = s_focus^2 + (slope x distance)^2 (Siegman 1986);
- loss: level(z) = -2 f * integral of a dz, with a in dB/(cm MHz) of each tissue (Duck 1990); the scanner's
  time-gain compensation undoes one a for all, so shadows and posterior enhancement appear by themselves;
- log compression: 50 to 60 dB of envelope in 8 bits, since echoes span more than an eye can (Szabo 2014).

Levels are decibels relative to gland; x runs along the probe, z into the body. Every pixel depends on (seed,
patient, view, size) and on nothing else: a case is the same in a set of 5 and of 5000.
"""

from pocketseg.data.phantom.case import PhantomCase, phantom_case
from pocketseg.data.phantom.folder import write_phantom

__all__ = ["PhantomCase", "phantom_case", "write_phantom"]
