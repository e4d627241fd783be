"""The published data sets that `apdist prepare NAME ROOT` knows."""

from apdist.data.preparing.published.description import Count, PublishedSet

OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/oxbuildings/"
PARIS = "https://www.robots.ox.ac.uk/~vgg/data/parisbuildings/"
REVISITED = "http://cmp.felk.cvut.cz/revisitop/data/datasets/"
LANDMARKS = "https://github.com/cvdfoundation/google-landmark"
DAMAGED_IN_PARIS = frozenset(
    f"paris_{name}.jpg"
    for name in (
        *("louvre_000136", "louvre_000146", "moulinrouge_000422", "museedorsay_001059"),
        *("notredame_000188", "pantheon_000284", "pantheon_000960", "pantheon_000974"),
        *("pompidou_000195", "pompidou_000196", "pompidou_000201", "pompidou_000467"),
        *("pompidou_000640", "sacrecoeur_000299", "sacrecoeur_000330", "sacrecoeur_000353"),
        *("triomphe_000662", "triomphe_000833", "triomphe_000863", "triomphe_000867"),
    )
)
"""As https://www.robots.ox.ac.uk/~vgg/data/parisbuildings/corrupt.txt names them."""

_ALL = (
    PublishedSet(
        name="roxford5k",
        title="Revisited Oxford: gnd_roxford5k.pkl, cropped queries",
        layout="revisited",
        lists=("gnd_roxford5k.pkl",),
        counts={"database": Count(images=4993), "query": Count(images=70)},
        num_queries=70,
        protocol="revisited",
        has_boxes=True,
        address=f"{REVISITED}roxford5k/gnd_roxford5k.pkl",
    ),
    PublishedSet(
        name="rparis6k",
        title="Revisited Paris: gnd_rparis6k.pkl, cropped queries",
        layout="revisited",
        lists=("gnd_rparis6k.pkl",),
        counts={"database": Count(images=6322), "query": Count(images=70)},
        num_queries=70,
        protocol="revisited",
        has_boxes=True,
        damaged=DAMAGED_IN_PARIS,
        address=f"{REVISITED}rparis6k/gnd_rparis6k.pkl",
    ),
    PublishedSet(
        name="revisitop1m",
        title="the million of distractors of both: revisitop1m.txt",
        layout="distractors",
        lists=("revisitop1m.txt",),
        folders=("jpg",),
        counts={"distractors": Count(images=1001001)},
        address="http://ptak.felk.cvut.cz/revisitop/revisitop1m/",
    ),
    PublishedSet(
        name="oxford5k",
        title="Oxford Buildings of 2007: *_query.txt, cropped queries",
        layout="classic",
        lists=("*_query.txt",),
        counts={"database": Count(images=5063)},
        num_queries=55,
        protocol="classic",
        has_boxes=True,
        address=OXFORD,
    ),
    PublishedSet(
        name="paris6k",
        title="Paris of 2008: *_query.txt, cropped queries",
        layout="classic",
        lists=("*_query.txt",),
        counts={"database": Count(images=6392)},
        num_queries=55,
        protocol="classic",
        has_boxes=True,
        damaged=DAMAGED_IN_PARIS,
        address=PARIS,
    ),
    PublishedSet(
        name="holidays",
        title="INRIA Holidays: groups by the names of files",
        layout="holidays",
        lists=(),
        counts={"database": Count(images=1491, classes=500)},
        num_queries=500,
        protocol="holidays",
        address="https://lear.inrialpes.fr/people/jegou/data.php.html",
    ),
    PublishedSet(
        name="sop",
        title="Stanford Online Products: Ebay_train.txt, Ebay_test.txt",
        layout="sop",
        lists=("Ebay_train.txt", "Ebay_test.txt"),
        counts={
            "train": Count(images=59551, classes=11318),
            "test": Count(images=60502, classes=11316),
        },
        address="https://cvgl.stanford.edu/projects/lifted_struct/",
        checksums={"Stanford_Online_Products.zip": "7f73d41a2f44250d4779881525aea32e"},
    ),
    PublishedSet(
        name="cub",
        title="CUB-200-2011: images.txt; classes 1 to 100 for training",
        layout="cub",
        lists=("images.txt", "image_class_labels.txt", "classes.txt"),
        folders=("images",),
        counts={
            "train": Count(images=5864, classes=100),
            "test": Count(images=5924, classes=100),
        },
        address="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        checksums={"CUB_200_2011.tgz": "97eceeb196236b17998738112f37df78"},
    ),
    PublishedSet(
        name="cars",
        title="Cars-196: cars_annos.mat; classes 1 to 98 for training",
        layout="cars",
        lists=("cars_annos.mat",),
        folders=("car_ims",),
        counts={
            "train": Count(images=8054, classes=98),
            "test": Count(images=8131, classes=98),
        },
        address="http://ai.stanford.edu/~jkrause/car196/cars_annos.mat",
        checksums={
            "car_ims.tgz": "d5c8f0aa497503f355e17dc7886c3f14",
            "cars_annos.mat": "b407c6086d669747186bd1d764ff9dbc",
        },
    ),
    PublishedSet(
        name="inshop",
        title="DeepFashion In-Shop: list_eval_partition.txt",
        layout="inshop",
        lists=("list_eval_partition.txt",),
        folders=("img", "Img/img"),
        counts={
            "train": Count(images=25882, classes=3997),
            "query": Count(images=14218, classes=3985),
            "gallery": Count(images=12612, classes=3985),
        },
        address="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
    ),
    PublishedSet(
        name="inaturalist",
        title="iNaturalist 2018 for retrieval: Inaturalist_train_set1.txt",
        layout="inaturalist",
        lists=("Inaturalist_train_set1.txt", "Inaturalist_test_set1.txt"),
        folders=("train_val2018",),
        counts={
            "train": Count(images=325846, classes=5690),
            "test": Count(images=136093, classes=2452),
        },
        address="https://github.com/Andrew-Brown1/Smooth_AP",
        checksums={"train_val2018.tar.gz": "b1c6952ce38f31868cc50ea72d066cc3"},
    ),
    PublishedSet(
        name="gldv2",
        title="Google Landmarks v2, all training images: train.csv",
        layout="landmarks_train",
        lists=("train.csv",),
        folders=("train",),
        counts={"train": Count(images=4132914, classes=203094)},
        address=LANDMARKS,
    ),
    PublishedSet(
        name="gldv2_clean",
        title="Google Landmarks v2, cleaned training images: train_clean.csv",
        layout="landmarks_train",
        lists=("train_clean.csv",),
        folders=("train",),
        counts={"train": Count(images=1580470, classes=81313)},
        may_hold_others=True,
        address=LANDMARKS,
    ),
    PublishedSet(
        name="gldv2_retrieval",
        title="Google Landmarks v2, index and queries: index.csv",
        layout="landmarks_retrieval",
        lists=("index.csv", "retrieval_solution_v2.1.csv"),
        folders=("index", "test"),
        counts={"database": Count(images=761757), "query": Count(images=1129)},
        num_queries=1129,
        protocol="landmarks",
        may_hold_others=True,
        address=LANDMARKS,
    ),
)
SETS = {which.name: which for which in _ALL}
