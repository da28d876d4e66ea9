"""Signs with a word or a short number: the data for reading text (OCR, paper section 4.1)."""

import random
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from PIL import Image, ImageDraw, ImageFont

WORDS = (
    "STOP", "EXIT", "OPEN", "SALE", "TAXI", "BUS", "CAFE", "BANK", "MENU", "ZOO", "PARK", "HOTEL", "SHOP", "FREE",
    "SLOW", "PULL", "PUSH", "LIFT", "GATE", "FARM", "BEER", "WINE", "SOUP", "FISH", "RICE", "MEAT", "MILK", "CAKE",
    "PIE", "TEA", "COFFEE", "SUGAR", "SALT", "BREAD", "PIZZA", "PASTA", "SALAD", "BURGER", "SUSHI", "TOAST", "JUICE",
    "WATER", "FRUIT", "NUTS", "EGGS", "CHEESE", "BUTTER", "HONEY", "LEMON", "APPLE", "PEACH", "BERRY", "GRAPE",
    "MELON", "ONION", "BEAN", "CORN", "HERBS", "SPICE", "BAKERY", "DINER", "GRILL", "BAR", "PUB", "CLUB", "CINEMA",
    "THEATER", "MUSEUM", "SCHOOL", "OFFICE", "CLINIC", "DENTIST", "DOCTOR", "NURSE", "POLICE", "FIRE", "ALARM",
    "DANGER", "CAUTION", "WARNING", "HOT", "COLD", "WET", "DRY", "HIGH", "LOW", "LEFT", "RIGHT", "UP", "DOWN",
    "NORTH", "SOUTH", "EAST", "WEST", "ROAD", "STREET", "LANE", "BRIDGE", "TUNNEL", "RIVER", "LAKE", "BEACH",
    "HARBOR", "PORT", "DOCK", "FERRY", "TRAIN", "TRAM", "METRO", "PLANE", "TICKET", "ENTRY", "WAY", "OUT", "IN",
    "ONE", "TWO", "TEN", "FIVE", "SIX", "NEW", "OLD", "BIG", "MINI", "BEST", "FRESH", "HAPPY", "HELLO", "WELCOME",
    "THANKS", "PLEASE", "WAIT", "GO", "WALK", "RUN", "BIKE", "CAR", "TRUCK", "GARAGE", "PARKING", "TOLL", "FUEL",
    "GAS", "OIL", "TIRE", "WASH", "CLEAN", "TRASH", "PAPER", "GLASS", "METAL", "PAINT", "TOOLS", "WOOD", "STONE",
    "BRICK", "HOUSE", "HOME", "ROOM", "RENT", "SOLD", "LOANS", "CASH", "COINS", "GOLD", "SILVER", "RING", "WATCH",
    "CLOCK", "PHONE", "PHOTO", "VIDEO", "MUSIC", "RADIO", "BOOKS", "NEWS", "POST", "MAIL", "LETTER", "STAMP", "TOYS",
    "GAMES", "SPORT", "GOLF", "TENNIS", "SWIM", "POOL", "GYM", "YOGA", "SPA", "SALON", "HAIR", "NAILS", "BABY",
    "KIDS", "PETS", "DOGS", "CATS", "BIRDS", "HORSE", "GARDEN", "FLOWERS", "PLANTS", "TREES",
)  # fmt: skip
NUMBER_SHARE = 0.2  # of the signs have a number
BOARDS = {  # colors of (board, letters)
    "white": ((250, 250, 250), (20, 20, 20)),
    "red": ((196, 30, 40), (255, 255, 255)),
    "green": ((20, 110, 60), (255, 255, 255)),
    "blue": ((25, 70, 170), (255, 255, 255)),
    "yellow": ((250, 210, 40), (20, 20, 20)),
}


@dataclass(frozen=True)
class Sign:
    """A board with a text; place: as of things; board: a key of BOARDS."""

    text: str
    place: str
    board: str


def sample_text(rng: random.Random) -> str:
    """A word of the list, or a number of two digits."""
    return str(rng.randint(10, 99)) if rng.random() < NUMBER_SHARE else rng.choice(WORDS)


def misread(text: str, rng: random.Random) -> str:
    """Another text of signs that looks like it: a number with one other digit, or a word of about the same letters."""
    if text.isdigit():
        return str(rng.choice([other for other in range(10, 100) if _differences(str(other), text) == 1]))
    return rng.choice(sorted((word for word in WORDS if word != text), key=lambda word: _differences(word, text))[:8])


def _differences(text: str, other: str) -> int:
    return sum(first != second for first, second in zip_longest(text, other))


@lru_cache(maxsize=4096)
def draw_sign(text: str, board: str, width: int, height: int) -> Image.Image:
    """The board [height, width] with the text as large as fits, RGB."""
    paper, ink = BOARDS[board]
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    draw.rectangle((1, 1, width - 2, height - 2), outline=ink)
    size = height
    while size > 1:
        font = ImageFont.load_default(size)
        left, top, right, bottom = font.getbbox(text)
        if right - left <= width - 8 and bottom - top <= height - 8:
            break
        size -= 1
    x, y = (width - (right - left)) / 2 - left, (height - (bottom - top)) / 2 - top
    draw.text((x, y), text, fill=ink, font=font)
    return image
