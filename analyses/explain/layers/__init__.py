"""Where does the broad change live, and is it one direction with the narrow one?"""

from analyses.explain.layers.config import LayersConfig as LayersConfig
from analyses.explain.layers.run import run as run
