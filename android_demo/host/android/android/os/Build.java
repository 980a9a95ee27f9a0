package android.os;

/** Stands in for Android's: a phone of Android 8, which has no thermal status. */
public final class Build {
    public static final String HARDWARE = System.getProperty("os.arch");
    public static final String BOARD = System.getProperty("os.name");
    public static final String MANUFACTURER = System.getProperty("java.vendor");
    public static final String MODEL = System.getProperty("java.vm.name");
    public static final String[] SUPPORTED_ABIS = {"x86_64"};

    private Build() {}

    /** Of Android. */
    public static final class VERSION {
        public static final String RELEASE = System.getProperty("java.version");
        public static final int SDK_INT = Integer.parseInt("26");
    }
}
